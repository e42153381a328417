//! `/api/v1/auth`: what is revoked, and the change of the master key.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, json};
use super::service::Parts;
use crate::meta::Revoked;

/// What to revoke: exactly one of the first five.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    /// An access key, with all that was signed with it.
    access_key: Option<String>,
    /// A session, by its token.
    session_token: Option<String>,
    /// Presigned requests of an access key that were signed until now.
    presigned: Option<String>,
    /// Sessions of a user or role that began until now, by its id.
    sessions_of: Option<String>,
    /// Everything of an account, by its name, that began until now.
    account: Option<String>,
    /// Why, for people.
    #[serde(default)]
    reason: String,
}

#[derive(Serialize)]
struct Page {
    revocations: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    what: String,
    before_ms: i64,
    until_ms: Option<i64>,
    reason: String,
}

#[derive(Serialize)]
struct Resealed {
    secrets: u64,
    resealed: u64,
    closed: u64,
}

/// How many revocations a page has.
const PAGE: usize = 1000;
const MAX_REASON: usize = 1024;

/// Revokes. It holds on this gateway when this is answered, and on every other on the same store within a second.
pub(super) async fn revoke(parts: &Parts, asked: Revocation) -> Result<(), Failure> {
    let Revocation { access_key, session_token, presigned, sessions_of, account, reason } = asked;
    if reason.len() > MAX_REASON || reason.contains('\0') {
        return Err(Failure::invalid(format!("`reason` may have {MAX_REASON} bytes.")));
    }
    let what = match (access_key, session_token, presigned, sessions_of, account) {
        (Some(key), None, None, None, None) => Revoked::Key(name(key)?),
        (None, Some(token), None, None, None) => Revoked::Token(crate::tokens::hash_of_token(&token)),
        (None, None, Some(key), None, None) => Revoked::Presigned(name(key)?),
        (None, None, None, Some(entity), None) => Revoked::Sessions(name(entity)?),
        (None, None, None, None, Some(account)) => {
            let found = parts.tokens.identity_named(&account).await?.ok_or_else(|| Failure::no_such("such account"))?;
            Revoked::Account(found.id)
        }
        _ => {
            let message = "Name exactly one of `access_key`, `session_token`, `presigned`, `sessions_of` and `account`.";
            return Err(Failure::invalid(message));
        }
    };
    Ok(parts.tokens.revoke(what, &reason).await?)
}

/// What is revoked, after one.
pub(super) async fn list(parts: &Parts, after: &str) -> Result<Answer, Failure> {
    let found = parts.store.revocations(after, PAGE).await?;
    let revocations = found.into_iter().map(|revocation| Listed {
        what: revocation.what.to_text(),
        before_ms: revocation.before,
        until_ms: revocation.until,
        reason: revocation.reason,
    });
    Ok(json(StatusCode::OK, &Page { revocations: revocations.collect() }))
}

/// Seals every secret under the first of the master keys, which are read again first.
pub(super) async fn reseal(parts: &Parts) -> Result<Answer, Failure> {
    let done = parts.tokens.reseal().await?;
    Ok(json(StatusCode::OK, &Resealed { secrets: done.secrets, resealed: done.resealed, closed: done.closed }))
}

/// A name that can be one: what is stored is compared byte by byte, and shown.
fn name(text: String) -> Result<String, Failure> {
    let good = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text) } else { Err(Failure::invalid("This cannot be the name of a key, a user or a role.")) }
}
