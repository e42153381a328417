//! `/api/v1/keys`

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, json};
use super::service::Parts;
use crate::tokens::Secret;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    #[serde(default)]
    root: bool,
    access_key: Option<String>,
    secret_key: Option<String>,
}

#[derive(Serialize)]
struct Created<'a> {
    name: &'a str,
    identity: &'a str,
    access_key: &'a str,
    secret_key: &'a str,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    access_key: String,
    name: String,
    identity: String,
    active: bool,
    created_ms: i64,
}

/// All access keys, without secrets.
pub(super) async fn list(parts: &Parts) -> Result<Answer, Failure> {
    let keys = parts.tokens.keys().await?;
    let keys = keys.into_iter().map(|(key, name)| Listed {
        access_key: key.access_key,
        name,
        identity: key.account,
        active: key.active,
        created_ms: key.created,
    });
    Ok(json(StatusCode::OK, &Keys { keys: keys.collect() }))
}

/// Creates a key. The only answer that ever holds its secret.
pub(super) async fn create(parts: &Parts, new: NewKey) -> Result<Answer, Failure> {
    if new.name.is_empty() {
        return Err(Failure::invalid("`name` must not be empty."));
    }
    if new.access_key.is_some() != new.secret_key.is_some() {
        return Err(Failure::invalid("`access_key` and `secret_key` belong together: give both or neither."));
    }
    let secret = new.secret_key.map(Secret::new);
    let key = parts.tokens.create_key(&new.name, new.root, new.access_key, secret).await?;
    tracing::info!(name = new.name, access_key = &*key.access_key, "access key created");
    let created = Created {
        name: &key.identity.name,
        identity: &key.identity.id,
        access_key: &key.access_key,
        secret_key: key.secret.expose(),
    };
    Ok(json(StatusCode::CREATED, &created))
}

/// Removes a key.
pub(super) async fn delete(parts: &Parts, access_key: &str) -> Result<(), Failure> {
    if !parts.tokens.delete_key(access_key).await? {
        return Err(Failure::no_such("such access key"));
    }
    tracing::info!(access_key, "access key removed");
    Ok(())
}
