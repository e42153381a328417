//! Accepting connections, and ending them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, Request, Uri, header};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt::socket_incoming_cpu;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant};
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::edge::{Caller, Edge, Service};
use super::proxies::{Client, Proxies, read_proxy_header};
use super::stream::{Socket, Stream};
use super::streams::{Moving, Still, Streams};
use super::tls::Tls;
use crate::runtime::{Drain, Gate, Permit, Reactors};
use crate::telemetry::Metrics;

/// The largest head of a request in bytes. A presigned URL of a 1024-byte key, all of it percent-encoded, with a session token and 2 KiB of user
/// metadata beside it stays well below.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What is read from a connection at once, in bytes: a body in larger pieces takes memory for nothing.
const READ_BYTES: usize = 128 * 1024;

/// The most headers of a request. 2 KiB of user metadata may be a few hundred short ones.
const MAX_HEADERS: usize = 512;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 100;
/// What one of them may hold ready for a client that reads slowly, in bytes.
const STREAM_BUFFER: usize = 256 * 1024;
/// What a client may send before we have taken it, for one request and for all of a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Connections that the system takes on our behalf before we have, listen(2); it bounds them by `net.core.somaxconn` itself.
const BACKLOG: i32 = 4096;

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a connection may wait without a byte moving.
    pub idle: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Whether the kernel sends files, where there is no TLS.
    pub sendfile: bool,
    /// TLS, if any.
    pub tls: Option<Arc<Tls>>,
    /// The proxies in front.
    pub proxies: Arc<Proxies>,
    /// Whether connections begin with a PROXY header, and come from proxies only.
    pub proxy_protocol: bool,
    /// What serves the connections; `None`: whoever is free of those who run the listener.
    pub reactors: Option<Reactors>,
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds an address: connections are taken by the system from now on, and served from [`run`](Self::run) on.
    ///
    /// # Errors
    /// The address cannot be read, is not ours, or is in use.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        // Again, with room for more than the 128 that it has: beyond those connections are dropped, or reset.
        rustix::net::listen(&listener, BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Takes a listener that somebody else has bound: a supervisor, which keeps it open while we are not there.
    ///
    /// # Errors
    /// It is no listener that can be used.
    pub fn of(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens: with the port that the system chose, when it was asked to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `drain` begins. The listener is closed on return; the connections that are left are tracked by `drain`.
    pub async fn run<S: Service>(self, edge: Edge<S>, limits: Limits, drain: Drain) {
        let _tracked = drain.track();
        let (edge, limits) = (Arc::new(edge), Arc::new(limits));
        let connections = Gate::new(limits.connections);
        let mut told = None;
        let mut draining = pin!(drain.draining());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection that ended before it was accepted concerns nobody; out of descriptors is a state that passes.
                    tell(&mut told, || tracing::warn!(%error, "a connection cannot be accepted"));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let Some(permit) = connections.enter() else {
                tell(&mut told, || tracing::warn!(limit = limits.connections, "too many connections: one more is closed"));
                continue;
            };
            if let Some(metrics) = edge.metrics {
                metrics.set_connections(connections.inside());
            }
            let (edge, limits, drain, connections) = (Arc::clone(&edge), Arc::clone(&limits), drain.clone(), connections.clone());
            let (tracked, reactors) = (drain.track(), limits.reactors.clone());
            let open = Open { permit: Some(permit), connections, metrics: edge.metrics };
            let serve = async move |stream| {
                // The count first, and then what a drain waits for.
                let _held = (open, tracked);
                serve(stream, remote, &edge, &limits, &drain).await;
            };
            let Some(reactors) = reactors else {
                tokio::spawn(serve(stream));
                continue;
            };
            // Of the last packet, which is the one that ended the handshake.
            let cpu = socket_incoming_cpu(&stream).ok().and_then(|cpu| usize::try_from(cpu).ok());
            match stream.into_std() {
                Ok(stream) => reactors.place(cpu).spawn(async move {
                    match TcpStream::from_std(stream) {
                        Ok(stream) => serve(stream).await,
                        Err(error) => tracing::debug!(%remote, %error, "a connection cannot be served"),
                    }
                }),
                Err(error) => tell(&mut told, || tracing::warn!(%error, "a connection cannot be handed over")),
            }
        }
    }
}

/// An open connection, counted until it is dropped.
struct Open {
    permit: Option<Permit>,
    connections: Gate,
    metrics: Option<&'static Metrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.permit.take());
        if let Some(metrics) = self.metrics {
            metrics.set_connections(self.connections.inside());
        }
    }
}

pub(super) async fn serve<S: Service>(
    mut stream: TcpStream,
    remote: SocketAddr,
    edge: &Arc<Edge<S>>,
    limits: &Limits,
    drain: &Drain,
) {
    // Without it a small answer waits for the client's delayed acknowledgement, 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "TCP_NODELAY");
    }
    let mut client = Client { remote, secure: false };
    let mut proxied = limits.proxies.trust(remote.ip());
    if limits.proxy_protocol {
        if !proxied {
            tracing::debug!(%remote, "a connection that is not from a proxy is closed");
            return;
        }
        let header = tokio::time::timeout(limits.idle, read_proxy_header(&mut stream, client));
        client = match before_drain(drain, header).await {
            Some(Ok(Ok(client))) => client,
            Some(Ok(Err(error))) => return tracing::debug!(%remote, %error, "no PROXY header"),
            Some(Err(_)) | None => return,
        };
        // Behind a proxy that speaks of the connection there may be another that speaks of the request.
        proxied = limits.proxies.trust(client.remote.ip());
    }
    let caller = Caller { client, proxies: proxied.then(|| Arc::clone(&limits.proxies)) };
    match &limits.tls {
        None => serve_http1(stream, limits.sendfile, &caller, edge, limits.idle, drain).await,
        // Of its own, or every connection without TLS would take the memory of one with it.
        Some(tls) => Box::pin(serve_tls(stream, tls, caller, edge, limits.idle, drain)).await,
    }
}

async fn serve_tls<S: Service>(
    stream: TcpStream,
    tls: &Tls,
    mut caller: Caller,
    edge: &Arc<Edge<S>>,
    idle: Duration,
    drain: &Drain,
) {
    let remote = caller.client.remote;
    let shaking = tokio::time::timeout(idle, tls.acceptor().accept(stream));
    let stream = match before_drain(drain, shaking).await {
        Some(Ok(Ok(stream))) => stream,
        Some(Ok(Err(error))) => {
            if let Some(metrics) = edge.metrics {
                metrics.tls_failed();
            }
            return tracing::debug!(%remote, %error, "TLS");
        }
        Some(Err(_)) | None => return,
    };
    caller.client.secure = true;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(stream, caller, edge, idle, drain).await;
    } else {
        serve_http1(stream, false, &caller, edge, idle, drain).await;
    }
}

/// What comes before the first request has no claim to be waited for.
async fn before_drain<T>(drain: &Drain, step: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = drain.draining() => None,
        done = step => Some(done),
    }
}

async fn serve_http1<S: Service>(
    stream: impl Socket,
    sendfile: bool,
    caller: &Caller,
    edge: &Edge<S>,
    idle: Duration,
    drain: &Drain,
) {
    let remote = caller.client.remote;
    // Files are sent where the stream is the socket.
    let connection = Arc::new(Connection::new(sendfile));
    let stream = Stream::new(stream, Arc::clone(&connection), idle, |status| edge.refuse(status, remote, &connection));
    let service = service_fn(|request| {
        let answer = edge.answer(request, caller, &connection, idle);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    // The stream keeps the time of heads and idle connections itself: hyper would set a timer for each request.
    http.header_read_timeout(None).max_header_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS).max_buf_size(READ_BYTES);
    let mut served = pin!(http.serve_connection(stream, service));
    tokio::select! {
        biased;
        ended = served.as_mut() => return log_end(remote, ended),
        () = drain.draining() => served.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        ended = served.as_mut() => log_end(remote, ended),
        () = drain.aborting() => {
            if connection.in_the_middle() {
                drain.note_aborted();
                tracing::warn!(%remote, "a request is broken off");
            }
        }
    }
}

async fn serve_http2<S: Service>(
    stream: TlsStream<TcpStream>,
    caller: Caller,
    edge: &Arc<Edge<S>>,
    idle: Duration,
    drain: &Drain,
) {
    let remote = caller.client.remote;
    let (caller, streams) = (Arc::new(caller), Arc::new(Streams::default()));
    let stream = TokioIo::new(Moving::new(stream, Arc::clone(&streams)));
    let service = service_fn(|request| {
        let (edge, caller) = (Arc::clone(edge), Arc::clone(&caller));
        let connection = Arc::new(Connection::of_streams(Arc::clone(&streams)));
        async move { Ok::<_, Infallible>(edge.answer(with_host(request), &caller, &connection, idle).await) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(STREAM_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut served = pin!(http.serve_connection(stream, service));
    let (mut leaving, mut told) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => return log_end(remote, ended),
            () = drain.aborting() => {
                if streams.active() > 0 {
                    drain.note_aborted();
                    tracing::warn!(%remote, requests = streams.active(), "requests are broken off");
                }
                return;
            }
            () = drain.draining(), if !leaving => leaving = true,
            still = streams.still(idle) => match still {
                // Once told to leave it has the same time again.
                Still::Idle if !told => leaving = true,
                Still::Idle => return,
                Still::Stalled => return tracing::debug!(%remote, "a client does not read: its connection is closed"),
            }
        }
        if leaving && !told {
            told = true;
            served.as_mut().graceful_shutdown();
        }
    }
}

/// A request of HTTP/2 in the words of HTTP/1, which signatures are made of: the host in its header, and the path alone in the target
/// (RFC 9113 section 8.3.1: `:authority` stands in for `Host`).
fn with_host<B>(request: Request<B>) -> Request<B> {
    let (mut head, body) = request.into_parts();
    let host = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        head.headers.insert(header::HOST, host);
        if let Some(path) = head.uri.path_and_query().cloned() {
            head.uri = Uri::from(path);
        }
    }
    Request::from_parts(head, body)
}

fn log_end(remote: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "a connection ended");
    }
}

/// Tells at most once a second: what happens for every connection would flood the log.
fn tell(last: &mut Option<Instant>, log: impl FnOnce()) {
    let now = Instant::now();
    if last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
        *last = Some(now);
        log();
    }
}
