//! What the remote can keep, found out by asking it: a server that does not know a condition answers as if there were none.

use bytes::Bytes;
use sluice_provider::{ETag, Error, ErrorKind, Result};

use crate::form::OWN;
use crate::payload::Payload;
use crate::provider::new_id;
use crate::remote::{Remote, etag, quoted};

/// Which changes the remote makes conditional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Able {
    pub(crate) puts: bool,
    pub(crate) completes: bool,
    pub(crate) copies: bool,
    pub(crate) deletes: bool,
}

impl Able {
    pub(crate) const ALL: Self = Self { puts: true, completes: true, copies: true, deletes: true };
    pub(crate) const NOTHING: Self = Self { puts: false, completes: false, copies: false, deletes: false };
}

/// Writes an object in the hidden space under conditions that do not hold.
pub(crate) async fn probe(remote: &Remote) -> Result<Able> {
    let name = remote.hidden(&format!("probe-{}", new_id()?));
    let advice = |error: Error| {
        let (kind, hint) = (*error.kind(), "a mount that may not write needs read_only = true");
        Error::new(kind, "probe of an s3 mount").with("hint", hint).caused_by(error)
    };
    let written = remote.put(&name, Payload::empty(), Vec::new(), &[]).await.map_err(advice)?;
    // Whatever answers 200 to everything is no remote.
    etag(&written.headers)?;
    let found = ask(remote, &name).await;
    let deleted = remote.delete(&name, None).await;
    let able = found?;
    deleted?;
    Ok(able)
}

async fn ask(remote: &Remote, name: &str) -> Result<Able> {
    let body = || Payload::Bytes(Bytes::from_static(b"probe"));
    let absent = vec![("if-none-match", "*".to_owned())];
    // No content has it.
    let other = ETag::new("00000000000000000000000000000000")?;
    let matching = vec![("if-match", quoted(&other))];
    let puts = refused(&remote.put(name, body(), Vec::new(), &absent).await)?
        && refused(&remote.put(name, body(), Vec::new(), &matching).await)?;
    let deletes = refused(&remote.delete(name, Some(&other)).await)?;
    let mut copies = false;
    if puts && deletes {
        let tag = remote.head(name).await?.tag;
        let headers = vec![(OWN.to_owned(), "e30".to_owned())];
        copies = refused(&remote.copy((name, &tag), name, headers.clone(), &absent).await)?
            && refused(&remote.copy((name, &tag), name, headers, &matching).await)?;
    }
    let completes = puts && completes(remote, name).await?;
    Ok(Able { puts, completes, copies, deletes })
}

async fn completes(remote: &Remote, name: &str) -> Result<bool> {
    let upload = remote.create_upload(name, Vec::new()).await?;
    let completed = async {
        let part = remote.put_part(name, &upload, 1, Payload::Bytes(Bytes::from_static(b"probe"))).await?;
        refused(&remote.complete(name, &upload, &[part], &[("if-none-match", "*".to_owned())]).await)
    };
    let completed = completed.await;
    remote.abort(name, &upload).await?;
    completed
}

/// Whether a condition that does not hold was refused. An error that says nothing of conditions is one of the mount.
fn refused<T>(outcome: &Result<T>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            ErrorKind::PreconditionFailed | ErrorKind::Conflict => Ok(true),
            ErrorKind::Unsupported | ErrorKind::NotFound => Ok(false),
            kind => Err(Error::new(*kind, "probe of an s3 mount").with("reason", error)),
        },
    }
}
