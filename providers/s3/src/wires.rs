//! Connections over plain TCP. hyper sends the request and reads the head of the answer; its body comes on the bare socket, so that it can go
//! on to a client without having been in our memory ([`SocketBody`]).

use std::error::Error as StdError;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt as _;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::Uri;
use http::{Method, Request, Response, StatusCode, Version, response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sluice_provider::SocketBody;
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, sleep};
use tower_service::Service as _;

use crate::payload::Payload;

/// The most that hyper holds of a body, in bytes. Bodies that are passed on cost a fifth less processor time with pieces of up to a
/// mebibyte than with those of 256 KiB; a connection takes so much only where one side is faster than the other.
pub(crate) const BUFFER_BYTES: usize = 1024 * 1024;

/// Where the body of an answer is.
pub(crate) enum Arrival {
    /// On a socket, with its length in the head.
    Socket(Box<SocketBody>),
    /// With hyper: framed in another way, or encrypted.
    Hyper(Incoming),
}

/// Why there is no answer.
pub(crate) struct Failed {
    pub(crate) cause: Box<dyn StdError + Send + Sync>,
    /// Whether anything may have arrived.
    pub(crate) sent: bool,
}

/// As [`Failed`], with the request if nothing of it was sent.
struct Lost {
    cause: Box<dyn StdError + Send + Sync>,
    unsent: Option<Box<Request<Payload>>>,
}

impl Lost {
    fn sent(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { cause: cause.into(), unsent: None }
    }
}

/// The connections to one place.
pub(crate) struct Wires {
    connector: HttpConnector,
    place: Uri,
    idle: Mutex<Idle>,
    /// How many may lie idle, and for how long.
    most: usize,
    patience: Duration,
}

#[derive(Default)]
struct Idle {
    /// Those that lie there longest come first.
    sockets: Vec<Lying>,
    /// Whether somebody looks after them.
    swept: bool,
}

/// A connection that lies idle.
struct Lying {
    socket: TcpStream,
    /// Whose thread is told when something arrives on it.
    runtime: runtime::Id,
    since: Instant,
}

impl Lying {
    /// The connection, of the runtime that is `here` from now on: told by another, each piece that arrives would wake two threads.
    fn taken_over(self, here: runtime::Id) -> io::Result<TcpStream> {
        if self.runtime == here { Ok(self.socket) } else { TcpStream::from_std(self.socket.into_std()?) }
    }
}

impl Wires {
    pub(crate) fn new(connector: HttpConnector, place: Uri, most: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { connector, place, idle: Mutex::default(), most, patience })
    }

    /// Sends a request on a connection that lay idle, or on a new one. Of the body that is to come each part has to arrive within `patience`
    /// of the one before.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        mut request: Request<Payload>,
        patience: Duration,
    ) -> Result<Response<Arrival>, Failed> {
        // As a server wants it: the host in its header, the path alone in the target (RFC 9112 section 3.2.1).
        let host = self.place.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let (Some(host), Some(path)) = (host, request.uri().path_and_query().cloned()) {
            request.headers_mut().insert(HOST, host);
            *request.uri_mut() = Uri::from(path);
        }
        loop {
            let idle = self.take();
            let lay_idle = idle.is_some();
            let socket = match idle {
                Some(socket) => socket,
                None => self.connect().await?,
            };
            match self.exchange(socket, request, patience).await {
                // The remote had closed it, and knows nothing of the request.
                Err(Lost { unsent: Some(unsent), .. }) if lay_idle => request = *unsent,
                Err(Lost { cause, unsent }) => return Err(Failed { cause, sent: unsent.is_none() }),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, Failed> {
        let connected = self.connector.clone().call(self.place.clone()).await;
        connected.map(TokioIo::into_inner).map_err(|error| Failed { cause: error.into(), sent: false })
    }

    async fn exchange(
        self: &Arc<Self>,
        socket: TcpStream,
        request: Request<Payload>,
        patience: Duration,
    ) -> Result<Response<Arrival>, Lost> {
        let (bodiless, sends) = (request.method() == Method::HEAD, request.body().len() > 0);
        let made = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(socket)).await;
        let (mut sender, mut connection) = match made {
            Ok(made) => made,
            Err(error) => return Err(Lost { cause: error.into(), unsent: Some(Box::new(request)) }),
        };
        let mut answer = pin!(sender.try_send_request(request));
        let mut over = false;
        let answered = poll_fn(|cx| {
            over = over || connection.poll_without_shutdown(cx).is_ready();
            match answer.as_mut().poll(cx) {
                Poll::Pending if over => Poll::Ready(None),
                answered => answered.map(Some),
            }
        });
        let answer = match answered.await {
            Some(Ok(answer)) => answer,
            Some(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                return Err(Lost { cause: error.into_error().into(), unsent });
            }
            None => return Err(Lost::sent("the connection ended before the answer")),
        };
        let (head, mut body) = answer.into_parts();
        let length = if bodiless { Some(0) } else { length(&head) };
        let Some(length) = length else {
            // Its end is where hyper finds it.
            if !over {
                tokio::spawn(connection);
            }
            return Ok(Response::from_parts(head, Arrival::Hyper(body)));
        };
        // One piece of the body may have been read before the answer was here.
        let mut read = BytesMut::new();
        while let Some(Some(frame)) = body.frame().now_or_never() {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => read.extend_from_slice(&data),
                Ok(Err(_trailers)) => {}
                Err(error) => return Err(Lost::sent(error)),
            }
        }
        drop(body);
        let parts = connection.into_parts();
        read.extend_from_slice(&parts.read_buf);
        let wires = Arc::downgrade(self);
        // A refusal may come before all of the request was sent.
        let stays = !over && stays(&head) && (!sends || head.status.is_success()) && read.len() as u64 <= length;
        // What came beyond the answer belongs to none.
        read.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let give_back = move |socket| {
            if let Some(wires) = wires.upgrade().filter(|_| stays) {
                wires.put(socket);
            }
        };
        let body = SocketBody::new(parts.io.into_inner(), read.freeze(), length, patience, give_back);
        Ok(Response::from_parts(head, Arrival::Socket(Box::new(body))))
    }

    /// The connection of this runtime that was used last, or else of any.
    fn take(&self) -> Option<TcpStream> {
        let here = Handle::current().id();
        // One that cannot be taken over is as good as none.
        self.last(here)?.taken_over(here).ok()
    }

    fn last(&self, here: runtime::Id) -> Option<Lying> {
        let mut idle = self.idle.lock();
        loop {
            let last = idle.sockets.len().checked_sub(1)?;
            let at = idle.sockets.iter().rposition(|lying| lying.runtime == here).unwrap_or(last);
            let lying = idle.sockets.remove(at);
            if lying.since.elapsed() < self.patience {
                return Some(lying);
            }
            // All before it lie there longer.
            idle.sockets.drain(..at);
        }
    }

    fn put(self: &Arc<Self>, socket: TcpStream) {
        // Whoever gives it back has read its last bytes, where it was taken.
        let Ok(here) = Handle::try_current() else { return };
        let mut idle = self.idle.lock();
        if idle.sockets.len() >= self.most {
            return;
        }
        idle.sockets.push(Lying { socket, runtime: here.id(), since: Instant::now() });
        if !std::mem::replace(&mut idle.swept, true) {
            self.sweep();
        }
    }

    /// Closes connections whose time is over, for as long as there are any.
    fn sweep(self: &Arc<Self>) {
        let (wires, patience) = (Arc::downgrade(self), self.patience);
        tokio::spawn(async move {
            loop {
                sleep(patience / 2).await;
                let Some(wires) = wires.upgrade() else { return };
                let mut idle = wires.idle.lock();
                idle.sockets.retain(|lying| lying.since.elapsed() < patience);
                if idle.sockets.is_empty() {
                    idle.swept = false;
                    return;
                }
            }
        });
    }
}

/// The length of a body that is delimited by nothing else (RFC 9112 section 6.3).
fn length(head: &response::Parts) -> Option<u64> {
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the remote keeps the connection open.
fn stays(head: &response::Parts) -> bool {
    if head.version != Version::HTTP_11 {
        return false;
    }
    let closes = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(5).any(|word| word == b"close");
    !head.headers.get_all(CONNECTION).iter().any(closes)
}
