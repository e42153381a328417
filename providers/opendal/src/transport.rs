//! The HTTP of the services. OpenDAL hands requests over with their bodies whole; where a body is larger than memory should hold, it comes
//! from [`with_body`] instead.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::error::with_causes;

/// How long a connection may lie idle before it is closed: less than servers wait.
const IDLE: Duration = Duration::from_secs(20);
const MAX_IDLE: usize = 32;
/// What an error says when the service did not answer in time.
pub(crate) const SILENT: &str = "the service is silent";

type Outgoing = BoxBody<Bytes, std::io::Error>;

/// A body that is larger than memory should hold.
pub(crate) struct LongBody {
    pub(crate) pieces: BoxStream<'static, std::io::Result<Bytes>>,
    pub(crate) size: Option<u64>,
}

tokio::task_local! {
    static BODY: Mutex<Option<LongBody>>;
}

/// Does a call whose PUT has this body instead of the one that OpenDAL knows of. Sent once: a second try fails.
pub(crate) async fn with_body<F: Future>(body: LongBody, call: F) -> F::Output {
    BODY.scope(Mutex::new(Some(body)), call).await
}

/// Connections to the services of a mount.
pub(crate) struct Connections {
    pool: Client<HttpsConnector<HttpConnector>, Outgoing>,
    answer_timeout: Duration,
}

impl Connections {
    pub(crate) fn new(connect_timeout: Duration, answer_timeout: Duration) -> sluice_provider::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|e| sluice_provider::Error::new(sluice_provider::ErrorKind::Unavailable, "root certificates").caused_by(e))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self { pool, answer_timeout })
    }
}

impl HttpTransport for Connections {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let (mut head, buffer) = request.into_parts();
        let bodiless = head.method == Method::HEAD;
        let propfind = head.method.as_str() == "PROPFIND";
        let long = (head.method == Method::PUT).then(|| BODY.try_with(|body| body.lock().take()));
        let (body, moving): (Outgoing, Option<Arc<Moving>>) = match long {
            Some(Ok(None)) => return Err(Error::new(ErrorKind::Unexpected, "a body can be sent once")),
            Some(Ok(Some(long))) => {
                head.headers.remove(header::CONTENT_LENGTH);
                if let Some(size) = long.size {
                    head.headers.insert(header::CONTENT_LENGTH, size.into());
                }
                let moving = Arc::new(Moving::default());
                let seen = Arc::clone(&moving);
                let frames = long.pieces.map(move |piece| {
                    seen.note();
                    piece.map(Frame::data)
                });
                (sync(frames.boxed()), Some(moving))
            }
            None | Some(Err(_)) => {
                let bytes = buffer.to_bytes();
                (Full::new(bytes).map_err(|never: Infallible| match never {}).boxed(), None)
            }
        };
        // What the caller told OpenDAL is of no use to hyper.
        head.extensions.clear();
        let answer = self.pool.request(Request::from_parts(head, body));
        let response = self.answered(answer, moving.as_deref()).await?;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            return Err(Error::new(ErrorKind::PermissionDenied, "the service refuses the credentials (401)"));
        }
        // RFC 4918, 9.1: a success is a 207. A page that a web server has for everything would be taken for a directory without anything.
        if propfind && head.status.is_success() && head.status != StatusCode::MULTI_STATUS {
            let status = head.status.as_u16().to_string();
            return Err(Error::new(ErrorKind::Unexpected, "the service does not speak WebDAV").with_context("status", status));
        }
        // The answer to a HEAD tells the length of a body that does not come.
        let size = head.headers.get(header::CONTENT_LENGTH).filter(|_| !bodiless && head.status != StatusCode::NOT_MODIFIED);
        let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
        let patience = self.answer_timeout;
        let pieces = stream::try_unfold(BodyStream::new(body), move |mut body| async move {
            loop {
                match timeout(patience, body.next()).await {
                    Err(_) => return Err(Error::new(ErrorKind::Unexpected, SILENT).set_temporary()),
                    Ok(None) => return Ok(None),
                    Ok(Some(Err(error))) => return Err(broken(&error)),
                    Ok(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some((Buffer::from(data), body)));
                        }
                    }
                }
            }
        });
        Ok(Response::from_parts(head, HttpBody::new(Box::pin(pieces), size)))
    }
}

impl Connections {
    /// Waits for the head of an answer, for as long as the body still moves.
    async fn answered(
        &self,
        answer: hyper_util::client::legacy::ResponseFuture,
        moving: Option<&Moving>,
    ) -> Result<Response<hyper::body::Incoming>> {
        let mut answer = std::pin::pin!(answer);
        loop {
            match timeout(self.answer_timeout, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(broken(&error)),
                Err(_) if moving.is_some_and(Moving::since_last) => {}
                Err(_) => return Err(Error::new(ErrorKind::Unexpected, SILENT).set_temporary()),
            }
        }
    }
}

/// Whether a body moves.
#[derive(Debug, Default)]
struct Moving(std::sync::atomic::AtomicBool);

impl Moving {
    fn note(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn since_last(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

/// A stream behind a lock that nobody else has: what polls a body has it alone, but must be able to prove it.
fn sync(frames: BoxStream<'static, std::io::Result<Frame<Bytes>>>) -> Outgoing {
    let frames = Mutex::new(frames);
    BodyExt::boxed(StreamBody::new(stream::poll_fn(move |cx| frames.lock().poll_next_unpin(cx))))
}

/// A connection that failed.
fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::new(ErrorKind::Unexpected, with_causes(error)).set_temporary()
}
