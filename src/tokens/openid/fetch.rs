//! A document of an issuer, over HTTP or HTTPS.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OnceCell;

/// The largest document in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// How long a document may take, from the first byte of the connection on.
const PATIENCE: Duration = Duration::from_secs(5);

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Reads documents. The client is made for the first one: the certificates that the system trusts take memory and time.
#[derive(Debug, Default)]
pub(super) struct Fetch(OnceCell<Https>);

impl Fetch {
    /// The body of a document. Whoever answers with anything but 200 is not followed.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, String> {
        match tokio::time::timeout(PATIENCE, self.read(url)).await {
            Ok(read) => read,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn read(&self, url: &str) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let client = self.0.get_or_try_init(client).await?;
        let request = Request::get(uri).header(header::ACCEPT, "application/json").header(header::USER_AGENT, "sluice");
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = client.request(request).await.map_err(|error| chain(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| chain(&*error))
    }
}

async fn client() -> Result<Https, String> {
    // Reads files.
    let connector = tokio::task::spawn_blocking(|| {
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider());
        builder.map(|builder| builder.https_or_http().enable_http1().build())
    });
    let connector = connector.await.map_err(|error| error.to_string())?;
    let connector = connector.map_err(|error| format!("no certificate is trusted on this machine: {error}"))?;
    // Nothing is kept open: an issuer is asked once an hour.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
