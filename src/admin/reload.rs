//! `/api/v1/reload`: the configuration, taken over while the gateway runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use serde::Serialize;

use super::answer::{Answer, Failure, json};
use super::service::Parts;

/// What became of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Keys that were taken over.
    pub applied: Vec<String>,
    /// Keys that hold from the next start on.
    pub restart: Vec<String>,
}

type Run = dyn Fn() -> BoxFuture<'static, Result<Reloaded, String>> + Send + Sync;

/// Takes the configuration over anew; an error says why it is refused, and nothing has changed then.
#[derive(Clone)]
pub struct Reload(Arc<Run>);

impl Reload {
    /// Of a function.
    pub fn new<F, R>(run: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reloaded, String>> + Send + 'static,
    {
        Self(Arc::new(move || run().boxed()))
    }

    /// Does it.
    ///
    /// # Errors
    /// Why the configuration is refused.
    pub async fn run(&self) -> Result<Reloaded, String> {
        (self.0)().await
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Reloads.
pub(super) async fn run(parts: &Parts) -> Result<Answer, Failure> {
    match parts.reload.run().await {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded)),
        Err(why) => Err(Failure::new(StatusCode::BAD_REQUEST, "InvalidConfiguration", why)),
    }
}
