//! What decides on requests for what is in a mount, beside policies and lists: its authoriser.
//!
//! A mount of any kind names one with the setting `authorise`. It can only refuse: what policies and lists forbid stays forbidden, and
//! what it does not answer counts as refused.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::meta::MountRecord;

/// The setting that names the plugin; those of the plugin begin with it and a dot.
const SETTING: &str = "authorise";

/// Who asks, as the signature of the request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The canonical id of the account.
    pub account: String,
    /// The ARN of the account, user, or session of a role.
    pub arn: String,
    /// The access key id; empty when there is none.
    pub access_key: String,
}

/// A request, as far as an authoriser is told of it.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Who asks; `None` for nobody in particular.
    pub sender: Option<Sender>,
    /// The operation, as the S3 API names it.
    pub operation: &'static str,
    /// The bucket.
    pub bucket: String,
    /// The key in the bucket; of a listing, its prefix.
    pub key: String,
    /// The version that is named.
    pub version: Option<String>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Whether it came through TLS.
    pub secure: bool,
}

/// Decides on requests.
#[async_trait]
pub trait Authorise: fmt::Debug + Send + Sync {
    /// Whether a request may go on, as far as this is concerned. Answers within a bounded time.
    ///
    /// # Errors
    /// The reason why nobody knows: the request must not go on.
    async fn permits(&self, asking: &Asking) -> Result<bool>;

    /// Makes sure that it can be asked.
    ///
    /// # Errors
    /// The reason why not.
    async fn load(&self) -> Result<()>;
}

/// A mount without what it says of its authoriser, and that.
///
/// # Errors
/// `InvalidArgument` when it makes no sense.
pub fn authoriser(mount: &MountRecord) -> Result<(MountRecord, Option<Arc<dyn Authorise>>)> {
    let (of_authoriser, settings): (BTreeMap<_, _>, BTreeMap<_, _>) =
        mount.settings.clone().into_iter().partition(|(name, _)| setting(name).is_some());
    let bare = MountRecord { settings, ..mount.clone() };
    if of_authoriser.is_empty() {
        return Ok((bare, None));
    }
    let refuse = |message: String| Error::new(ErrorKind::InvalidArgument(message.into()), "open mount");
    if super::class_of(&mount.prefix).is_some() {
        return Err(refuse(format!("A mount that keeps a storage class serves no requests: {SETTING} is for those that do")));
    }
    if !of_authoriser.contains_key(SETTING) {
        return Err(refuse(format!("Mount setting {SETTING} is missing: the plugin that {SETTING}.* is for")));
    }
    let inner = of_authoriser.into_iter().filter_map(|(name, value)| Some((setting(&name)?.to_owned(), value))).collect();
    Ok((bare, Some(open(inner)?)))
}

/// What stands in for an authoriser that cannot be: it lets nothing through.
#[must_use]
pub fn refusing(reason: &str) -> Arc<dyn Authorise> {
    Arc::new(Refusing(reason.to_owned()))
}

/// The name of a setting of the authoriser, as the plugin host knows it.
fn setting(name: &str) -> Option<&str> {
    match name.strip_prefix(SETTING)? {
        "" => Some("plugin"),
        rest => rest.strip_prefix('.'),
    }
}

#[cfg(feature = "wasm")]
fn open(settings: BTreeMap<String, String>) -> Result<Arc<dyn Authorise>> {
    super::plugins::authoriser(&settings)
}

#[cfg(not(feature = "wasm"))]
fn open(_: BTreeMap<String, String>) -> Result<Arc<dyn Authorise>> {
    let message = "This build runs no plugins, so no mount of it can have an authoriser";
    Err(Error::new(ErrorKind::InvalidArgument(message.into()), "open mount"))
}

#[derive(Debug)]
struct Refusing(String);

impl Refusing {
    fn error(&self) -> Error {
        let kind = ErrorKind::Provider(sluice_provider::ErrorKind::Unavailable);
        Error::new(kind, "authorise").with("reason", &self.0)
    }
}

#[async_trait]
impl Authorise for Refusing {
    async fn permits(&self, _: &Asking) -> Result<bool> {
        Err(self.error())
    }

    async fn load(&self) -> Result<()> {
        Err(self.error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn mount(prefix: &str, settings: &[(&str, &str)]) -> MountRecord {
        let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        MountRecord { bucket: "bucket".into(), prefix: prefix.into(), provider: "memory".into(), settings }
    }

    #[test]
    fn the_settings_of_an_authoriser_are_not_those_of_the_mount() {
        let (bare, none) = authoriser(&mount("p/", &[("quota_bytes", "1"), ("authoriser", "x")])).unwrap();
        assert!(none.is_none() && bare.settings.len() == 2, "another name is for the provider to refuse");
        for (prefix, settings, named) in [
            ("p/", vec![("authorise.config.team", "x")], "authorise is missing"),
            ("storage-class:GLACIER", vec![("authorise", "guard")], "storage class"),
            #[cfg(feature = "wasm")]
            ("p/", vec![("authorise", "../guard")], "letters"),
            #[cfg(feature = "wasm")]
            ("p/", vec![("authorise", "guard"), ("authorise.timeout", "1")], "timeout_ms"),
            #[cfg(feature = "wasm")]
            ("p/", vec![("authorise", "guard"), ("authorise.over", "memory")], "over"),
            #[cfg(not(feature = "wasm"))]
            ("p/", vec![("authorise", "guard")], "no plugins"),
        ] {
            let error = authoriser(&mount(prefix, &settings)).unwrap_err();
            let ErrorKind::InvalidArgument(message) = error.kind() else { unreachable!("{error}") };
            assert!(message.contains(named), "{message}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_asked_lets_nothing_through() {
        let asking = Asking {
            sender: None,
            operation: "GetObject",
            bucket: "b".into(),
            key: "k".into(),
            version: None,
            address: None,
            secure: false,
        };
        let error = refusing("it is gone").permits(&asking).await.unwrap_err();
        assert!(error.to_string().contains("it is gone"), "{error}");
        // A plugin whose directory nobody named: the mount is there, and refuses.
        #[cfg(feature = "wasm")]
        {
            let (bare, found) = authoriser(&mount("p/", &[("quota_bytes", "1"), ("authorise", "guard")])).unwrap();
            assert_eq!(bare.settings.len(), 1);
            assert!(found.unwrap().permits(&asking).await.is_err());
        }
    }
}
