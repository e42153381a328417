//! Calls over HTTP: a pool of connections, time limits, and bounded repetition of what may be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt, TryFutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use http::header::HeaderMap;
use http::uri::{Scheme, Uri};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sha2::{Digest, Sha256};
use sluice_provider::{Body, ByteStream, Error, ErrorKind, Link, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::Settings;
use crate::answer::{Answer, error_of, passing};
use crate::credentials::CredentialSource;
use crate::hops::{self, HOPS_HEADER};
use crate::payload::{Payload, Progress};
use crate::request::{Call, Scope, escape_path, escape_query, presign, sign};
use crate::wires::{Arrival, BUFFER_BYTES, Failed, Wires};

/// The largest answer that is read into memory: a page of a listing whose keys are all escapes is about 4 MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// How long the remote's bucket is believed to be there after it was seen, in milliseconds.
const SEEN: u64 = 1000;
/// The pauses before repetitions: twice as long each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An answer whose body is still to come.
pub(crate) struct Opened {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Arrival,
    turn: Option<OwnedSemaphorePermit>,
}

/// What is remembered of a call for its errors.
struct Asked {
    operation: &'static str,
    method: Method,
    of_version: bool,
}

impl From<&Call> for Asked {
    fn from(call: &Call) -> Self {
        Self { operation: call.operation, method: call.method.clone(), of_version: call.names_version() }
    }
}

/// Where calls go.
enum Connections {
    /// Over TLS.
    Encrypted(Box<Pool<HttpsConnector<HttpConnector>, Payload>>),
    /// Over plain TCP, where a body can be passed on without being read.
    Plain(Arc<Wires>),
}

/// The remote.
pub(crate) struct Client {
    connections: Connections,
    credentials: Arc<CredentialSource>,
    scheme: &'static str,
    host: String,
    /// What every path begins with: `/` or `/bucket/`.
    root: String,
    region: String,
    signs_bodies: bool,
    connect_timeout: Duration,
    answer_timeout: Duration,
    retries: u32,
    turns: Arc<Semaphore>,
    born: Instant,
    /// When the bucket was last seen, in milliseconds since `born`; 0 for never.
    seen: AtomicU64,
}

impl Client {
    /// Of one of the endpoints of a mount.
    pub(crate) fn new(settings: &Settings, endpoint: &Uri, credentials: Arc<CredentialSource>) -> Result<Self> {
        let https = endpoint.scheme() == Some(&Scheme::HTTPS);
        let authority = endpoint.authority().map_or("", |a| a.as_str());
        // As clients sign it: without the port that the scheme implies.
        let authority = authority.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(authority);
        let (host, root) = match settings.virtual_host {
            true => (format!("{}.{authority}", settings.bucket), "/".to_owned()),
            false => (authority.to_owned(), format!("/{}/", settings.bucket)),
        };
        let connections = if https {
            let pool = Pool::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(settings.idle)
                .pool_max_idle_per_host(settings.max_idle)
                .http1_max_buf_size(BUFFER_BYTES)
                .build(connector(https, settings.connect_timeout)?);
            Connections::Encrypted(Box::new(pool))
        } else {
            let place = Uri::builder().scheme("http").authority(host.as_str()).path_and_query("/").build();
            let place = place.map_err(|e| Error::new(ErrorKind::Unavailable, "endpoint").caused_by(e))?;
            Connections::Plain(Wires::new(tcp(settings.connect_timeout), place, settings.max_idle, settings.idle))
        };
        Ok(Self {
            connections,
            credentials,
            scheme: if https { "https" } else { "http" },
            host,
            root,
            region: settings.region.clone(),
            signs_bodies: !https,
            connect_timeout: settings.connect_timeout,
            answer_timeout: settings.answer_timeout,
            retries: settings.retries,
            turns: Arc::new(Semaphore::new(settings.max_connections)),
            born: Instant::now(),
            seen: AtomicU64::new(0),
        })
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.root)
    }

    /// Makes a call and reads the whole answer. Anything but a success is an error.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer> {
        match self.ask(call).await? {
            (_, Some(refusal)) => Err(refusal),
            (answer, None) => Ok(answer),
        }
    }

    /// As [`call`](Self::call), for whom a refusal has something to tell: it comes along with its error.
    pub(crate) async fn ask(&self, call: Call) -> Result<(Answer, Option<Error>)> {
        let asked = Asked::from(&call);
        let opened = self.open(call).await?;
        let answer = self.whole(opened, asked.operation).await?;
        if answer.status.is_success() {
            self.saw();
            return Ok((answer, None));
        }
        let refusal = self.refusal(&asked, &answer).await;
        Ok((answer, Some(refusal)))
    }

    /// Makes a call and answers with a body that is still to come. Anything but a success is an error.
    pub(crate) async fn stream(&self, call: Call) -> Result<Opened> {
        let asked = Asked::from(&call);
        let opened = self.open(call).await?;
        if opened.status.is_success() {
            self.saw();
            return Ok(opened);
        }
        let answer = self.whole(opened, asked.operation).await?;
        Err(self.refusal(&asked, &answer).await)
    }

    /// Whether there is a bucket that can be used.
    pub(crate) async fn check(&self) -> Result<()> {
        let opened = self.open(Call::new("head bucket", Method::HEAD, None)).await?;
        let answer = self.whole(opened, "head bucket").await?;
        if answer.status.is_success() {
            self.saw();
            return Ok(());
        }
        let error = error_of(&Method::HEAD, &answer, "head bucket");
        if *error.kind() == ErrorKind::NotFound {
            let error = Error::new(ErrorKind::Unavailable, "head bucket").with("reason", "there is no such bucket");
            return Err(error.with("remote", self.place()));
        }
        Err(error.with("remote", self.place()))
    }

    /// Whether there is, asked once.
    pub(crate) async fn check_once(&self) -> Result<()> {
        let opened = self.open(Call::new("head bucket", Method::HEAD, None).hasty(true).within()).await?;
        let answer = self.whole(opened, "head bucket").await?;
        if answer.status.is_success() { Ok(()) } else { Err(error_of(&Method::HEAD, &answer, "head bucket")) }
    }

    /// Opens connections, or uses those that are open: so many at the same time.
    pub(crate) async fn warm(&self, connections: usize) {
        // Read first, so that all calls begin together.
        if self.credentials.get().await.is_ok() {
            futures::future::join_all((0..connections).map(|_| self.check_once())).await;
        }
    }

    /// A URL that lets whoever has it read the object for some time. The remote shows what the query says.
    pub(crate) async fn link(&self, key: &str, query: Vec<(&'static str, String)>, time: Duration) -> Result<Link> {
        let credentials = self.credentials.get().await?;
        let path = self.path(Some(key));
        let scope = Scope {
            credentials: &credentials,
            region: &self.region,
            host: &self.host,
            path: &path,
            sha256: None,
            now: SystemTime::now().into(),
        };
        Ok(Link::new(format!("{}://{}{path}?{}", self.scheme, self.host, presign(query, &scope, time)?)))
    }

    fn path(&self, key: Option<&str>) -> String {
        match key {
            Some(key) => format!("{}{}", self.root, escape_path(key)),
            None if self.root.len() > 1 => self.root.trim_end_matches('/').to_owned(),
            None => self.root.clone(),
        }
    }

    /// Waits until there are not too many requests under way.
    async fn turn(&self, operation: &'static str) -> Result<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        match timeout(self.connect_timeout, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(turn) => turn.map_err(|e| Error::new(ErrorKind::Internal, operation).caused_by(e)),
            Err(_) => Err(Error::new(ErrorKind::Busy, operation).with("reason", "max_connections are in use")),
        }
    }

    /// The body of an answer of which `size` bytes are due.
    pub(crate) fn body(&self, opened: Opened, size: u64) -> Body {
        match opened.body {
            Arrival::Socket(body) if body.length() == size => Body::Socket(Box::new(body.holding(opened.turn))),
            body => Body::Stream(self.bytes(Opened { body, ..opened }, size)),
        }
    }

    /// The same in memory.
    pub(crate) fn bytes(&self, opened: Opened, size: u64) -> ByteStream {
        match opened.body {
            Arrival::Hyper(body) => self.counted(body, size, opened.turn),
            Arrival::Socket(body) if body.length() == size => body.holding(opened.turn).into_stream(),
            Arrival::Socket(_) => stream::iter([Err(broken("it has another length than was asked for"))]).boxed(),
        }
    }

    fn counted(&self, body: Incoming, size: u64, turn: Option<OwnedSemaphorePermit>) -> ByteStream {
        struct Reading {
            body: Incoming,
            left: u64,
            over: bool,
            _turn: Option<OwnedSemaphorePermit>,
        }
        let patience = self.answer_timeout;
        let start = Reading { body, left: size, over: false, _turn: turn };
        stream::unfold(start, move |mut reading| async move {
            loop {
                if reading.over {
                    return None;
                }
                let next = match timeout(patience, reading.body.frame()).await {
                    Err(_) => Err(Error::new(ErrorKind::TimedOut, "body of the remote")),
                    Ok(Some(Err(error))) => Err(broken("the connection broke").caused_by(error)),
                    Ok(None) if reading.left == 0 => return None,
                    Ok(None) => Err(broken("it ended early")),
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(bytes) if bytes.is_empty() => continue,
                        Ok(bytes) => match reading.left.checked_sub(bytes.len() as u64) {
                            Some(left) => {
                                reading.left = left;
                                Ok(bytes)
                            }
                            None => Err(broken("it is longer than was said")),
                        },
                        Err(_trailers) => continue,
                    },
                };
                reading.over = next.is_err();
                return Some((next, reading));
            }
        })
        .boxed()
    }

    async fn whole(&self, opened: Opened, operation: &'static str) -> Result<Answer> {
        let Opened { status, headers, body, turn: _turn } = opened;
        let mut pieces = match body {
            Arrival::Socket(body) => body.into_stream(),
            Arrival::Hyper(body) => {
                let broken = move |error| Error::new(ErrorKind::Unavailable, operation).caused_by(error);
                body.into_data_stream().map_err(broken).boxed()
            }
        };
        let mut bytes = BytesMut::new();
        loop {
            match timeout(self.answer_timeout, pieces.next()).await {
                Err(_) => return Err(Error::new(ErrorKind::TimedOut, operation)),
                Ok(None) => return Ok(Answer { status, headers, body: bytes.freeze() }),
                Ok(Some(data)) => {
                    let data: Bytes = data?;
                    if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                        return Err(Error::new(ErrorKind::Unavailable, operation).with("reason", "the answer is too long"));
                    }
                    bytes.extend_from_slice(&data);
                }
            }
        }
    }

    /// The error of an answer. That a key is missing is believed only where there is a bucket to miss it.
    async fn refusal(&self, asked: &Asked, answer: &Answer) -> Error {
        let operation = asked.operation;
        let error = error_of(&asked.method, answer, operation);
        // A delete marker has nothing to be read, and a name that the remote cannot read is no version's.
        let none = answer.is_marker() || asked.of_version && answer.status == StatusCode::BAD_REQUEST;
        if none && asked.method != Method::PUT {
            return Error::new(ErrorKind::NotFound, operation).caused_by(error);
        }
        let unsure = *error.kind() == ErrorKind::NotFound && answer.body.is_empty();
        if unsure && !self.seen_lately() {
            return match self.check().await {
                Ok(()) => error,
                Err(cause) => Error::new(*cause.kind(), operation).caused_by(cause),
            };
        }
        error
    }

    fn saw(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(now.max(1), Ordering::Relaxed);
    }

    fn seen_lately(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let seen = self.seen.load(Ordering::Relaxed);
        seen != 0 && now.saturating_sub(seen) < SEEN
    }

    /// Sends a call, and sends it again where that is harmless and may help.
    async fn open(&self, mut call: Call) -> Result<Opened> {
        let mut tries = 0;
        loop {
            let again = if tries < self.retries && !call.hasty { call.again() } else { None };
            let repeatable = call.repeatable;
            let outcome = self.send(call).await;
            let Some(next) = again else { return outcome.map_err(|(error, _)| error) };
            match &outcome {
                Ok(opened) if opened.status == StatusCode::FORBIDDEN && tries == 0 => {
                    // Perhaps the credentials were exchanged since they were read. A refusal was not done, so once more is harmless.
                    self.credentials.expire();
                }
                Ok(opened) if passing(opened.status) && (repeatable || opened.status == StatusCode::SERVICE_UNAVAILABLE) => {}
                Err((error, sent)) if *error.kind() == ErrorKind::Unavailable && (repeatable || !sent) => {}
                _ => return outcome.map_err(|(error, _)| error),
            }
            drop(outcome);
            sleep(pause(tries)).await;
            tries += 1;
            call = next;
        }
    }

    /// Sends a call once. An error tells whether anything may have arrived.
    async fn send(&self, mut call: Call) -> Result<Opened, (Error, bool)> {
        let operation = call.operation;
        let credentials = self.credentials.get().await.map_err(|e| (e, false))?;
        let path = self.path(call.key.as_deref());
        call.query.sort();
        let digest = match &call.payload {
            Payload::Bytes(bytes) if bytes.is_empty() => Some(s3s_sigv4::EMPTY_STRING_SHA256_HASH.to_owned()),
            Payload::Bytes(bytes) if self.signs_bodies => Some(hex::encode(Sha256::digest(bytes))),
            _ => None,
        };
        let scope = Scope {
            credentials: &credentials,
            region: &self.region,
            host: &self.host,
            path: &path,
            sha256: digest.as_deref(),
            now: SystemTime::now().into(),
        };
        call.headers.retain(|(name, _)| name != HOPS_HEADER);
        call.headers.push((HOPS_HEADER.into(), hops::next().map_err(|e| (e, false))?));
        sign(&mut call, &scope).map_err(|e| (e, false))?;
        let query = escape_query(&call.query);
        let methods_with_bodies = call.method == Method::PUT || call.method == Method::POST;
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request =
            Request::builder().method(call.method).uri(format!("{}://{}{path}{separator}{query}", self.scheme, self.host));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if call.payload.len() == 0 && methods_with_bodies {
            // Left to itself, HTTP says nothing of a body that is empty, and S3 wants to be told.
            request = request.header("content-length", "0");
        }
        let turn = if call.within { None } else { Some(self.turn(operation).await.map_err(|e| (e, false))?) };
        let progress = call.payload.progress();
        let request = request.body(call.payload).map_err(|e| (Error::new(ErrorKind::Internal, operation).caused_by(e), false))?;
        let answer = match &self.connections {
            Connections::Plain(wires) => wires.ask(request, self.answer_timeout).boxed(),
            Connections::Encrypted(pool) => {
                let failed = |error: hyper_util::client::legacy::Error| Failed { sent: !error.is_connect(), cause: error.into() };
                pool.request(request).map_ok(|answer| answer.map(Arrival::Hyper)).map_err(failed).boxed()
            }
        };
        let (head, body) = self.answered(answer, progress.as_deref(), operation).await?.into_parts();
        Ok(Opened { status: head.status, headers: head.headers, body, turn })
    }

    /// Waits for the head of an answer, for as long as the body still moves or its sender lets us wait.
    async fn answered(
        &self,
        mut answer: BoxFuture<'_, Result<Response<Arrival>, Failed>>,
        progress: Option<&Progress>,
        operation: &'static str,
    ) -> Result<Response<Arrival>, (Error, bool)> {
        let mut before = progress.map(Progress::look);
        loop {
            match timeout(self.answer_timeout, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(Failed { cause, sent })) => {
                    let error = Error::new(ErrorKind::Unavailable, operation).with("remote", self.place());
                    return Err((error.caused_by(chain(&*cause)), sent));
                }
                Err(_) => {
                    let now = progress.map(Progress::look);
                    let moving = now.is_some_and(|(_, starved)| starved) || now != before;
                    if !moving {
                        return Err((Error::new(ErrorKind::TimedOut, operation).with("remote", self.place()), true));
                    }
                    before = now;
                }
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("place", &self.place()).finish_non_exhaustive()
    }
}

/// Keeps this many connections open for as long as there is somebody to use them.
pub(crate) fn keep_warm(client: &Arc<Client>, connections: usize, idle: Duration) {
    if connections == 0 {
        return;
    }
    let client = Arc::downgrade(client);
    tokio::spawn(async move {
        loop {
            let Some(held) = client.upgrade() else { return };
            held.warm(connections).await;
            drop(held);
            // Before the pool, or the remote, closes them.
            sleep(idle / 2).await;
        }
    });
}

fn tcp(connect_timeout: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "body of the remote").with("reason", what)
}

/// What makes connections.
pub(crate) fn connector(https: bool, connect_timeout: Duration) -> Result<HttpsConnector<HttpConnector>> {
    let failed = |what: &'static str| Error::new(ErrorKind::Unavailable, what);
    let tcp = tcp(connect_timeout);
    let builder = HttpsConnectorBuilder::new();
    let builder = if https {
        builder
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|e| failed("root certificates").caused_by(e))?
    } else {
        // Never used, and so not worth reading the machine's certificates.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed("TLS").caused_by(e))?;
        builder.with_tls_config(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// The whole story of an error: hyper tells the cause only to those who ask.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The pause before a repetition, between half and the whole of its step, so that many do not come back together.
fn pause(tries: u32) -> Duration {
    let step = PAUSE.0.saturating_mul(1 << tries.min(10)).min(PAUSE.1);
    let mut random = [0];
    // Without randomness they come back together, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    step / 2 + (step / 2) * u32::from(random[0]) / 255
}

/// Bytes of a body that is read whole: at most so many.
pub(crate) async fn collect(mut body: ByteStream, most: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > most {
            return Err(Error::new(ErrorKind::Corrupt, "body of the remote").with("reason", "it is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
