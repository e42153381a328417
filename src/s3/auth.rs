//! Secrets for the framework's signature check.

use std::sync::Arc;

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::error::{Code, Failure};
use crate::tokens::Tokens;

/// The token layer as the framework wants it.
pub(crate) struct Auth(Arc<Tokens>);

impl Auth {
    /// Over the token layer.
    pub(crate) fn new(tokens: Arc<Tokens>) -> Self {
        Self(tokens)
    }
}

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.credential(access_key).await {
            Ok(Some(credential)) => Ok(SecretKey::from(credential.secret.expose())),
            Ok(None) => Err(to_framework(&Code::InvalidAccessKeyId.into())),
            Err(error) => Err(to_framework(&error.into())),
        }
    }
}

/// A failure in the framework's form, from which [`super::front`] reads it back.
pub(crate) fn to_framework(failure: &Failure) -> S3Error {
    let code = failure.code();
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.name().into()), failure.message().to_owned());
    error.set_status_code(code.status());
    error
}
