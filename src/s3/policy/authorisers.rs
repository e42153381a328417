//! What the authorisers of the mounts say to a request.
//!
//! Each is asked about what is in its own mount: a key, or a listing that comes by. What is about the bucket and its settings is not
//! theirs, so that nobody is locked out of putting things right.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_provider::ListFrom;

use super::decide::About;
use crate::mounts::{Asking, Authorise, Sender};
use crate::namespaces::Namespace;
use crate::s3::error::Result;
use crate::s3::operation::Op;
use crate::tokens::Actor;
use crate::tokens::acl::ANONYMOUS;

/// Whether all that have a say let a request go on.
///
/// # Errors
/// When one of them fails: the request must not go on.
pub(super) async fn permit(actor: &Actor, namespace: &Namespace, about: &About<'_>) -> Result<bool> {
    let prefix = about.prefix.or_else(|| about.query.get("prefix")).unwrap_or_default();
    let authorisers = with_a_say(namespace, about, prefix);
    if authorisers.is_empty() {
        return Ok(true);
    }
    let account = actor.account();
    let sender = (account.id != ANONYMOUS).then(|| Sender {
        account: account.id.clone(),
        arn: actor.principal().arn(),
        access_key: actor.credential().map_or_else(String::new, |credential| credential.access_key.to_string()),
    });
    let asking = Asking {
        sender,
        operation: about.op.name(),
        bucket: namespace.bucket.name.clone(),
        key: if about.key.is_empty() { prefix } else { about.key }.to_owned(),
        version: about.query.get("versionId").map(str::to_owned),
        address: about.peer.map(|peer| peer.address),
        secure: about.peer.is_some_and(|peer| peer.secure),
    };
    for authoriser in authorisers {
        if !authoriser.permits(&asking).await? {
            tracing::debug!(bucket = asking.bucket, key = asking.key, operation = asking.operation, "an authoriser refuses");
            return Ok(false);
        }
    }
    Ok(true)
}

fn with_a_say(namespace: &Namespace, about: &About<'_>, prefix: &str) -> Vec<Arc<dyn Authorise>> {
    let table = namespace.mounts.load();
    if !about.key.is_empty() {
        return table.resolve(about.key).and_then(|(mount, _)| mount.authoriser.clone()).into_iter().collect();
    }
    let lists = matches!(about.op, Op::ListObjects | Op::ListObjectsV2 | Op::ListObjectVersions | Op::ListMultipartUploads);
    if !lists {
        return Vec::new();
    }
    // From the start, wherever this page begins: the next one is asked about in the same words.
    let mounts: BTreeSet<usize> = table.segments(prefix, &ListFrom::Start).map(|segment| segment.mount).collect();
    mounts.into_iter().filter_map(|mount| table.get(mount)?.authoriser.clone()).collect()
}
