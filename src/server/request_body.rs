//! The body of a request, with a clock: it ends in an error when no byte came for too long.

use std::error::Error as StdError;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Duration, Instant, Sleep};

use super::connection::Connection;

/// What goes wrong with a body: an [`io::Error`] of kind `TimedOut` when the client stopped moving, hyper's own error otherwise.
pub type BodyError = Box<dyn StdError + Send + Sync>;

/// The body.
pub struct RequestBody {
    incoming: Incoming,
    connection: Arc<Connection>,
    idle: Duration,
    waits_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, connection: Arc<Connection>, idle: Duration) -> Self {
        Self { incoming, connection, idle, waits_since: None, alarm: None }
    }

    fn moves(&mut self) {
        if self.waits_since.take().is_some() {
            self.connection.set_awaits_body(false);
            self.connection.note_moved();
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waits_since.get_or_insert_with(Instant::now) + self.idle;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            if self.waits_since.is_none() {
                self.connection.set_awaits_body(true);
            }
            ready!(self.overdue(cx));
            self.moves();
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped sending").into())));
        };
        self.moves();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.connection.add_received(data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.incoming.is_end_stream() {
            self.connection.note_unread();
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size", &self.incoming.size_hint().exact()).finish_non_exhaustive()
    }
}
