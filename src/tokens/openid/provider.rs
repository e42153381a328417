//! What an account has registered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::tokens::Tokens;

/// The most providers of an account (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
pub const MAX_PROVIDERS: usize = 100;
/// The most clients of a provider.
pub const MAX_CLIENTS: usize = 100;
/// The kind of an account's documents that these are.
const KIND: &str = "openid-provider";

/// An identity provider of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIdProvider {
    /// The issuer, as its tokens name it: a URL.
    pub url: String,
    /// For whom its tokens may be.
    pub clients: Vec<String>,
    /// What AWS asks for and no longer looks at where the system trusts the certificate. Kept, and shown again.
    pub thumbprints: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was registered, in milliseconds since the epoch.
    pub created: i64,
}

impl OpenIdProvider {
    /// What ARNs and condition keys name it by: the issuer without its scheme.
    #[must_use]
    pub fn place(&self) -> &str {
        issuer_place(&self.url)
    }
}

/// An issuer without its scheme and a slash at its end.
#[must_use]
pub fn issuer_place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/')
}

impl Tokens {
    /// Whether an issuer may be registered here: its scheme, and the list of the settings.
    ///
    /// # Errors
    /// `InvalidArgument` with the reason.
    pub fn check_issuer(&self, url: &str) -> Result<()> {
        let refused = |why: &'static str| Err(Error::new(ErrorKind::InvalidArgument(why.into()), "check issuer"));
        let Some((scheme, rest)) = url.split_once("://") else {
            return refused("The issuer must be a URL that begins with https://.");
        };
        match scheme {
            "https" => {}
            "http" if self.issuers.allows_http() => {}
            _ => return refused("The issuer must be a URL that begins with https://."),
        }
        let host = rest.split('/').next().unwrap_or_default();
        let sound =
            url.len() <= 255 && !host.is_empty() && !rest.contains(['?', '#', '@']) && rest.bytes().all(|b| b.is_ascii_graphic());
        if !sound || url.parse::<http::Uri>().is_err() {
            return refused("The issuer must be a URL of a host and a path, of at most 255 characters.");
        }
        if self.issuers.admits(url) { Ok(()) } else { refused("This gateway takes no tokens of this issuer.") }
    }

    /// The providers of an account, in the order of their places.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn openid_providers(&self, account: &str) -> Result<Vec<OpenIdProvider>> {
        Ok(self.provider_documents(account).await?.into_iter().map(|(provider, _)| provider).collect())
    }

    /// The providers with the texts that they were read from.
    async fn provider_documents(&self, account: &str) -> Result<Vec<(OpenIdProvider, String)>> {
        let documents = self.store.account_documents(account, KIND).await?;
        Ok(documents.into_iter().filter_map(|(_, text)| Some((serde_json::from_str(&text).ok()?, text))).collect())
    }

    /// The provider of an account at a place.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn openid_provider(&self, account: &str, place: &str) -> Result<Option<OpenIdProvider>> {
        Ok(self.openid_providers(account).await?.into_iter().find(|provider| provider.place() == place))
    }

    /// Registers a provider. False when there is one at its place, or no such account.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn add_openid_provider(&self, account: &str, provider: &OpenIdProvider) -> Result<bool> {
        self.store.set_account_document(account, KIND, provider.place(), None, Some(&written(provider)?)).await
    }

    /// Replaces `from` by `to`, or, for `None`, by nothing. False when what is there is not `from`, or no more: look again and try again.
    ///
    /// # Errors
    /// `InvalidArgument` when the two are of different issuers, `MetaUnavailable`.
    pub async fn replace_openid_provider(
        &self,
        account: &str,
        from: &OpenIdProvider,
        to: Option<&OpenIdProvider>,
    ) -> Result<bool> {
        if to.is_some_and(|to| to.url != from.url) {
            let message = "the issuer stays as it is";
            return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "replace identity provider"));
        }
        // Compared as it is kept: another version may have written it in another way.
        let known = self.provider_documents(account).await?.into_iter().find(|(known, _)| known == from);
        let Some((_, kept)) = known else { return Ok(false) };
        let to = to.map(written).transpose()?;
        self.store.set_account_document(account, KIND, from.place(), Some(&kept), to.as_deref()).await
    }
}

fn written(provider: &OpenIdProvider) -> Result<String> {
    serde_json::to_string(provider).map_err(|error| Error::new(ErrorKind::Internal, "write identity provider").caused_by(error))
}
