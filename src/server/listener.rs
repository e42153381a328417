//! Accepting connections, and ending them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant};

use super::connection::Connection;
use super::edge::{Edge, Service};
use super::stream::Stream;
use crate::runtime::{Drain, Gate};

/// The largest head of a request in bytes. A presigned URL of a 1024-byte key, all of it percent-encoded, with a session token and 2 KiB of user
/// metadata beside it stays well below.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may wait without a byte moving.
    pub idle: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Whether the kernel sends files.
    pub sendfile: bool,
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
        let edge = Arc::new(edge);
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
            let (edge, drain, connections) = (Arc::clone(&edge), drain.clone(), connections.clone());
            let tracked = drain.track();
            tokio::spawn(async move {
                let _tracked = tracked;
                serve(stream, remote, &edge, limits, &drain).await;
                drop(permit);
                if let Some(metrics) = edge.metrics {
                    metrics.set_connections(connections.inside());
                }
            });
        }
    }
}

async fn serve<S: Service>(stream: TcpStream, remote: SocketAddr, edge: &Edge<S>, limits: Limits, drain: &Drain) {
    // Without it a small answer waits for the client's delayed acknowledgement, 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "TCP_NODELAY");
    }
    let idle = limits.idle;
    // The stream is the socket: plain HTTP/1.
    let connection = Arc::new(Connection::new(limits.sendfile));
    let stream = Stream::new(stream, Arc::clone(&connection), idle, |status| edge.refuse(status, remote, &connection));
    let service = service_fn(|request| {
        let answer = edge.answer(request, remote, &connection, idle);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    // The stream keeps the time of heads and idle connections itself: hyper would set a timer for each request.
    http.header_read_timeout(None).max_header_size(MAX_HEAD_BYTES);
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
