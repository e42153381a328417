//! The edge of every request: what happens before the service sees it, and after it has answered.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Duration;

use super::answer_body::{AnswerBody, Content, Exchange};
use super::connection::Connection;
use super::fault::Fault;
use super::labels::Labels;
use super::proxies::{Client, Proxies};
use super::request_body::{BodyError, RequestBody};
use crate::runtime::Gate;
use crate::s3::{FileBody, Operation, Peer, RequestFacts, SendsFiles};
use crate::telemetry::{ErrorCode, Metrics, RequestId, RequestSpan, host_id};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
const INSTANCE: HeaderName = HeaderName::from_static("x-sluice-instance");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const SERVER: HeaderValue = HeaderValue::from_static("Sluice");

/// What answers requests. Any `Fn(Request<RequestBody>) -> Future<Response<B>>` is one.
pub trait Service: Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error: Into<BodyError>> + Unpin + Send + 'static;

    /// Answers. Every error is an answer.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl<F, A, B> Service for F
where
    F: Fn(Request<RequestBody>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin + Send + 'static,
{
    type Body = B;

    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<B>> + Send {
        self(request)
    }
}

/// Who is connected, and the proxies whose word about it counts, when it is one of them.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) proxies: Option<Arc<Proxies>>,
}

/// A service with its edge.
pub struct Edge<S> {
    /// The service.
    pub service: S,
    /// How its protocol says what the edge has to say.
    pub fault: fn(Fault, &str, &RequestId) -> Response<Bytes>,
    /// Who may be inside at once.
    pub gate: Gate,
    /// Where requests are counted; `None` leaves them out of metrics and access log.
    pub metrics: Option<&'static Metrics>,
    /// Host names beneath which a host name names a bucket.
    pub domains: Arc<[String]>,
    /// Time to the head of an answer, from the last byte that moved; `None` for no limit.
    pub head_timeout: Option<Duration>,
    /// Names this process, in `x-sluice-instance`.
    pub instance: Option<HeaderValue>,
}

impl<S: Service> Edge<S> {
    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        caller: &Caller,
        connection: &Arc<Connection>,
        idle: Duration,
    ) -> Response<AnswerBody<S::Body>> {
        let began = Instant::now();
        connection.begin();
        let waits = waits_for_continue(&request);
        let empty = request.body().is_end_stream();
        if waits && empty {
            connection.owe_interim();
        }
        let mut client = caller.client;
        if let Some(proxies) = &caller.proxies {
            client = proxies.client(client, request.headers());
            if let Some(host) = proxies.host(request.headers()) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        let remote = client.remote;
        let span = if self.metrics.is_some() { RequestSpan::begin(request.headers()) } else { None };
        let request_id = RequestId::next();
        let method = request.method().clone();
        let labels = Labels::of(request.uri(), request.headers(), !self.domains.is_empty());
        let permit = self.gate.enter();
        let answer = if permit.is_some() {
            let limit = self.head_timeout.filter(|_| !grows_with_the_object(&request));
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(connection), idle));
            request.extensions_mut().insert(request_id.clone());
            request.extensions_mut().insert(Peer { address: remote.ip(), secure: client.secure });
            if connection.sends_files() && matches!(request.version(), Version::HTTP_10 | Version::HTTP_11) {
                request.extensions_mut().insert(SendsFiles);
            }
            self.call(request, limit, connection).await
        } else {
            Err(Fault::SlowDown)
        };
        let response = match answer {
            Ok(response) => response.map(Content::Service),
            Err(fault) => {
                if fault == Fault::Panicked
                    && let Some(metrics) = self.metrics
                {
                    metrics.panicked();
                }
                (self.fault)(fault, labels.path(), &request_id).map(Content::Edge)
            }
        };
        let (mut head, mut content) = response.into_parts();
        if connection.sends_files()
            && let Some((pieces, left)) = head.extensions.remove::<FileBody>().and_then(|file| file.take())
        {
            content = Content::File { pieces, left, pipe: None };
        }
        if method == Method::HEAD && head.status.as_u16() >= 400 {
            // The document that tells the error has no place in the answer to a HEAD, and its length would be a lie.
            content = Content::Edge(Bytes::new());
            head.headers.remove(header::CONTENT_LENGTH);
        }
        if let Ok(id) = HeaderValue::from_str(&request_id.0) {
            head.headers.insert(REQUEST_ID, id);
        }
        head.headers.entry(HOST_ID).or_insert_with(|| HeaderValue::from_static(host_id()));
        head.headers.insert(header::SERVER, SERVER);
        if let Some(instance) = &self.instance {
            head.headers.insert(INSTANCE, instance.clone());
        }
        if waits && !empty && connection.received() == 0 {
            // Whether the body follows is the client's choice now, and what it sends next cannot be told from it.
            head.headers.insert(header::CONNECTION, CLOSE);
        }
        let facts: Option<RequestFacts> = head.extensions.remove();
        let exchange = Exchange {
            permit,
            connection: Arc::clone(connection),
            metrics: self.metrics,
            domains: Arc::clone(&self.domains),
            labels,
            method,
            request_id,
            remote,
            began,
            first_byte_secs: began.elapsed().as_secs_f64(),
            worked_secs: began.elapsed().min(connection.last_moved().elapsed()).as_secs_f64(),
            span,
            op: head.extensions.get::<Operation>().map_or("Unknown", |operation| operation.0),
            status: head.status.as_u16(),
            code: head.extensions.get::<ErrorCode>().map(|code| code.0).or(facts.as_ref().map(|facts| facts.error)),
            facts,
        };
        Response::from_parts(head, AnswerBody::new(content, exchange))
    }

    /// The document that hyper's bare `status` lacks when what came could not be read as a request, with the headers of every answer.
    pub(super) fn refuse(&self, status: u16, remote: SocketAddr, connection: &Arc<Connection>) -> Response<Bytes> {
        connection.begin();
        let fault = if status == 400 { Fault::Unreadable } else { Fault::HeadTooLarge };
        let request_id = RequestId::next();
        let mut response = (self.fault)(fault, "", &request_id);
        if let Ok(id) = HeaderValue::from_str(&request_id.0) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response.headers_mut().insert(HOST_ID, HeaderValue::from_static(host_id()));
        response.headers_mut().insert(header::SERVER, SERVER);
        let mut exchange = Exchange {
            permit: None,
            connection: Arc::clone(connection),
            metrics: self.metrics,
            domains: Arc::clone(&self.domains),
            labels: Labels::of(&Uri::default(), &HeaderMap::new(), false),
            method: Method::from_bytes(b"-").unwrap_or_default(),
            request_id,
            remote,
            began: Instant::now(),
            first_byte_secs: 0.0,
            worked_secs: 0.0,
            span: None,
            op: "Unknown",
            status: response.status().as_u16(),
            code: response.extensions().get::<ErrorCode>().map(|code| code.0),
            facts: None,
        };
        exchange.tell(response.body().len() as u64, true);
        connection.end();
        // The rest of what was sent is not wanted either.
        connection.note_unread();
        response
    }

    async fn call(
        &self,
        request: Request<RequestBody>,
        limit: Option<Duration>,
        connection: &Connection,
    ) -> Result<Response<S::Body>, Fault> {
        // A service that panics leaves its own things in whatever state they were; what it shares is behind locks that do not poison
        // and guards that give back on unwinding.
        // The future is large, and hyper moves what it is part of several times before it is polled.
        let mut call = Box::pin(AssertUnwindSafe(async { self.service.call(request).await }).catch_unwind());
        // Most answers are there at once: a timer only for those that are not.
        let answer = match futures::poll!(call.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => match limit {
                None => call.await,
                Some(limit) => tokio::select! {
                    biased;
                    answer = call.as_mut() => answer,
                    () = overdue(connection, limit) => return Err(Fault::TimedOut),
                },
            },
        };
        answer.map_err(|_| Fault::Panicked)
    }
}

async fn overdue(connection: &Connection, limit: Duration) {
    loop {
        if connection.awaits_body() {
            // The body has a clock of its own, and its error makes a better answer.
            tokio::time::sleep(limit).await;
            continue;
        }
        let deadline = connection.last_moved() + limit;
        if tokio::time::Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// Copies and completions work through whole objects before they answer.
fn grows_with_the_object<B>(request: &Request<B>) -> bool {
    const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
    request.headers().contains_key(COPY_SOURCE)
        || (request.method() == Method::POST && request.uri().query().is_some_and(|query| query.contains("uploadId=")))
}

/// Whether the client waits for a 100 (Continue) before it sends the body, RFC 9110 section 10.1.1.
///
/// For a body of no bytes hyper sends none, which is allowed; but S3 does, and botocore (aws, boto3) reads the next answer of the connection
/// wrongly after a final one without. A final answer that comes first leaves the body to the client: botocore does not send it and goes on
/// with its next request, of which hyper takes the first bytes for the body when they come soon enough, so such an answer ends the connection.
fn waits_for_continue(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
