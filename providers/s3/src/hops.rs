//! Gateways that mount each other: each call names the gateways that it came through, so that a circle ends.

use std::sync::OnceLock;

use sluice_provider::{Error, ErrorKind, Result};

/// The header that names the gateways between a client and a remote, first to last, separated by commas.
pub const HOPS_HEADER: &str = "x-sluice-hops";
/// The most gateways that a request may come through.
const MAX_HOPS: usize = 8;
/// More than so many bytes are more hops than that.
const MAX_BYTES: usize = 512;

tokio::task_local! {
    static CAME: String;
}

/// Does `work` for a request that came through these gateways: the value of its header, if it has one. What `work` asks of an
/// [`S3`](crate::S3) mount tells the remote so.
pub async fn with_hops<F: Future>(came: Option<String>, work: F) -> F::Output {
    match came {
        Some(came) => CAME.scope(came, work).await,
        None => work.await,
    }
}

/// The gateways that the request at hand came through.
pub(crate) fn came() -> Option<String> {
    CAME.try_with(Clone::clone).ok()
}

/// The value for the next one.
///
/// # Errors
/// [`ErrorKind::Unsupported`], which nobody tries again, when it has been here or comes from too far.
pub(crate) fn next() -> Result<String> {
    static SELF: OnceLock<String> = OnceLock::new();
    let own = match SELF.get() {
        Some(own) => own,
        None => {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Internal, "name of a gateway").caused_by(e))?;
            SELF.get_or_init(|| hex::encode(random))
        }
    };
    onward(came().as_deref(), own)
}

fn onward(came: Option<&str>, own: &str) -> Result<String> {
    let Some(came) = came else { return Ok(own.to_owned()) };
    let refused = |why: &'static str| Error::new(ErrorKind::Unsupported, "too many proxy hops").with("reason", why);
    if came.len() > MAX_BYTES || came.split(',').count() >= MAX_HOPS {
        return Err(refused("the request came through too many gateways"));
    }
    if came.split(',').any(|hop| hop.trim() == own) {
        return Err(refused("gateways mount each other in a circle"));
    }
    Ok(format!("{came},{own}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_circle_and_a_long_way_end() {
        assert_eq!(onward(None, "a").unwrap(), "a");
        assert_eq!(onward(Some("a,b"), "c").unwrap(), "a,b,c");
        assert!(onward(Some("a, b"), "b").is_err());
        assert!(onward(Some("1,2,3,4,5,6,7"), "a").is_ok());
        assert!(onward(Some("1,2,3,4,5,6,7,8"), "a").is_err());
        assert!(onward(Some(&"x".repeat(513)), "a").is_err());
    }

    #[tokio::test]
    async fn what_goes_on_elsewhere_knows_where_it_came_from() {
        let told = with_hops(Some("far".into()), crate::provider::detached(async { Ok(came()) })).await;
        assert_eq!(told.unwrap().as_deref(), Some("far"));
        assert!(with_hops(None, async { came() }).await.is_none());
    }
}
