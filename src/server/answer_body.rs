//! The body of an answer: counts what goes out, and holds the request's place among those in flight until it has ended, however it ends.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use sluice_provider::Pipe;

use super::connection::Connection;
use super::files::Chunk;
use super::labels::Labels;
use super::request_body::BodyError;
use crate::runtime::Permit;
use crate::s3::RequestFacts;
use crate::telemetry::{
    AccessLine, Answered, AuditLine, Metrics, RequestId, RequestSpan, SpanEnd, access_enabled, audit_enabled, note_work, op_stats,
};
use crate::transfer::{Piece, PieceStream};

/// The body.
pub struct AnswerBody<B: Body> {
    content: Content<B>,
    size: Option<u64>,
    sent: u64,
    ended: bool,
    exchange: Exchange,
}

pub(super) enum Content<B> {
    /// The service's.
    Service(B),
    /// The edge's own.
    Edge(Bytes),
    /// What the kernel sends, how many bytes of it are to come, and the pipe that the last piece is in.
    File { pieces: PieceStream, left: u64, pipe: Option<Arc<Pipe>> },
}

/// What is known of a request and its answer, told when the answer has ended.
pub(super) struct Exchange {
    pub(super) permit: Option<Permit>,
    pub(super) connection: Arc<Connection>,
    pub(super) metrics: Option<&'static Metrics>,
    pub(super) domains: Arc<[String]>,
    pub(super) labels: Labels,
    pub(super) method: Method,
    pub(super) request_id: RequestId,
    pub(super) remote: SocketAddr,
    pub(super) began: Instant,
    pub(super) first_byte_secs: f64,
    /// Of that, what came after the last byte of the request.
    pub(super) worked_secs: f64,
    pub(super) span: Option<Box<RequestSpan>>,
    pub(super) op: &'static str,
    pub(super) status: u16,
    pub(super) code: Option<&'static str>,
    /// What the front end knows better than the labels.
    pub(super) facts: Option<RequestFacts>,
}

impl<B: Body> AnswerBody<B> {
    pub(super) fn new(content: Content<B>, exchange: Exchange) -> Self {
        let size = match &content {
            Content::Service(body) => body.size_hint().exact(),
            Content::Edge(bytes) => Some(bytes.len() as u64),
            Content::File { left, .. } => Some(*left),
        };
        Self { content, size, sent: 0, ended: false, exchange }
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let this = &mut *self;
        this.exchange.connection.set_owed(false);
        let frame = match &mut this.content {
            Content::Service(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.map_data(Chunk::Bytes)).map_err(Into::into)),
            },
            Content::Edge(bytes) if bytes.is_empty() => None,
            Content::Edge(bytes) => Some(Ok(Frame::data(Chunk::Bytes(std::mem::take(bytes))))),
            Content::File { pieces, left, pipe } => {
                // It is the client's turn until the pipe is empty, not the provider's.
                if let Some(pipe) = pipe {
                    ready!(pipe.poll_empty(cx));
                }
                let piece = match pieces.poll_next_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(piece) => piece,
                };
                let chunk = piece.map(|piece| match piece? {
                    Piece::Bytes(bytes) => Ok(Chunk::Bytes(bytes)),
                    Piece::File(extent) => Ok(Chunk::file(&this.exchange.connection, extent)),
                    Piece::Pipe(piece) => {
                        *pipe = Some(piece.pipe());
                        Ok(Chunk::pipe(&this.exchange.connection, piece))
                    }
                });
                if let Some(Ok(chunk)) = &chunk {
                    *left = left.saturating_sub(chunk.remaining() as u64);
                }
                chunk.map(|chunk| chunk.map(Frame::data))
            }
        };
        match &frame {
            None => this.ended = true,
            Some(Ok(frame)) => {
                this.exchange.connection.set_owed(true);
                this.sent += frame.data_ref().map_or(0, |data| data.remaining() as u64);
            }
            Some(Err(error)) => {
                let id = &*this.exchange.request_id.0;
                tracing::warn!(request_id = id, sent = this.sent, %error, "an answer breaks off: its connection is closed");
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Service(body) => body.is_end_stream(),
            Content::Edge(bytes) => bytes.is_empty(),
            Content::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Service(body) => body.size_hint(),
            Content::Edge(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

impl<B: Body> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        let exchange = &mut self.exchange;
        // hyper does not ask for the end of a body whose length it knows, nor for the body of an answer that has none.
        let bodiless = exchange.method == Method::HEAD || matches!(exchange.status, 204 | 304);
        let complete = self.ended
            || bodiless
            || self.size == Some(self.sent)
            || matches!(&self.content, Content::Service(body) if body.is_end_stream());
        exchange.connection.end();
        drop(exchange.permit.take());
        exchange.tell(self.sent, complete);
    }
}

impl Exchange {
    /// Counts and logs it.
    pub(super) fn tell(&mut self, sent: u64, complete: bool) {
        let Some(metrics) = self.metrics else { return };
        let span = self.span.take();
        let received = self.connection.received();
        let total_secs = self.began.elapsed().as_secs_f64();
        let (bucket, key, access_key) = match &self.facts {
            Some(facts) => (facts.bucket.as_str(), facts.key.as_str(), facts.access_key.as_str()),
            None => {
                let (bucket, key) = self.labels.bucket_and_key(&self.domains);
                (bucket, key, self.labels.access_key())
            }
        };
        let code = self.code.filter(|code| !code.is_empty());
        metrics.answered(&Answered {
            method: &self.method,
            op: self.op,
            status: self.status,
            code,
            bucket,
            received,
            sent,
            first_byte_secs: self.first_byte_secs,
            total_secs,
            complete,
        });
        op_stats().note(self.op, self.first_byte_secs, self.status >= 500 && code != Some("SlowDown"));
        if note_work(&self.request_id, self.op, bucket, self.worked_secs) {
            metrics.slow(self.op);
        }
        if let Some(span) = span {
            span.end(&SpanEnd {
                op: self.op,
                status: self.status,
                code,
                bucket,
                key,
                request_id: &self.request_id,
                method: self.method.as_str(),
                received,
                sent,
                complete,
            });
        }
        // A request of IAM or STS names no bucket and changes who may do what.
        let changes = !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let administrative = self.method == Method::POST && bucket.is_empty();
        if changes && (administrative || audit_enabled()) {
            let remote = self.remote.to_string();
            let (request_id, op, status) = (&*self.request_id.0, self.op, self.status);
            let line = AuditLine { request_id, remote: &remote, who: access_key, op, resource: bucket, key, status };
            if administrative { line.administrative() } else { line.data() }
        }
        if access_enabled(self.status, code) {
            let line = AccessLine {
                request_id: &self.request_id,
                remote: self.remote,
                method: self.method.as_str(),
                bucket,
                key,
                op: self.op,
                status: self.status,
                code,
                received,
                sent,
                first_byte_ms: self.first_byte_secs * 1e3,
                total_ms: total_secs * 1e3,
                access_key,
                complete,
            };
            line.write();
        }
    }
}

impl<B: Body> fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("size", &self.size).field("sent", &self.sent).finish_non_exhaustive()
    }
}
