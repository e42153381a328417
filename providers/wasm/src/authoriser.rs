//! A plugin that decides on requests.
//!
//! It is asked before an operation and says whether it may go on. What it does not answer (it is gone, it traps, it takes too long) is an
//! error, and whoever asks must not take that for leave.

use std::sync::Arc;

use sluice_provider::Result;

use crate::bindings::{Failure, authorise};
use crate::host::Host;
use crate::pool::Pool;
use crate::settings::Settings;

/// Who makes a request, as its signature has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// The canonical id of the account.
    pub account: String,
    /// The ARN of the account, user, or session of a role.
    pub arn: String,
    /// The access key id.
    pub access_key: String,
}

/// A request, as far as an authoriser is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Who makes it; `None` for one without a signature.
    pub principal: Option<Principal>,
    /// The operation, as the S3 API names it: `GetObject`.
    pub operation: String,
    /// The bucket.
    pub bucket: String,
    /// The key in the bucket; of a listing, its prefix.
    pub key: String,
    /// The version that it names.
    pub version: Option<String>,
    /// The address of the client.
    pub source_address: Option<String>,
    /// Whether it came through TLS.
    pub secure: bool,
}

/// What an authoriser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has nothing against it.
    Allow,
    /// It must not be.
    Deny,
    /// It has no opinion.
    Abstain,
}

/// An authoriser: a plugin with its instances, for one mount.
#[derive(Clone, Debug)]
pub struct Authoriser(Arc<Pool>);

impl Authoriser {
    /// Of a plugin that may not be there yet: until it is, every request is an error. Must be called within a runtime, which watches
    /// the plugin directory from then on.
    #[must_use]
    pub fn new(host: &Host, settings: &Settings) -> Self {
        Self(host.authoriser(settings))
    }

    /// Loads it.
    ///
    /// # Errors
    /// `Unavailable` with the reason when the plugin is not there, cannot be used, or is no authoriser.
    pub async fn load(&self) -> Result<()> {
        self.0.load().await
    }

    /// Asks about a request.
    ///
    /// # Errors
    /// What broke the call: it must be taken for a refusal.
    pub async fn decide(&self, request: Request) -> Result<Verdict> {
        let told = told(request);
        let decided = self.0.call("authorise", move |instance| match &instance.authorise {
            Some(guest) => guest.call_decide(&mut instance.store, &told).map(Ok),
            None => Ok(Err(Failure::Unsupported)),
        });
        Ok(match decided.await? {
            authorise::Decision::Allow => Verdict::Allow,
            authorise::Decision::Deny => Verdict::Deny,
            authorise::Decision::Abstain => Verdict::Abstain,
        })
    }
}

fn told(request: Request) -> authorise::Request {
    let Request { principal, operation, bucket, key, version, source_address, secure } = request;
    let principal = principal.map(|Principal { account, arn, access_key }| authorise::Principal { account, arn, access_key });
    authorise::Request { principal, operation, bucket, key, version, source_address, secure }
}
