//! Sees to it that an aws-chunked body without a trailer ends with its terminal chunk.
//!
//! The framework takes the end of the connection's body for the end of the chunks as soon as the declared length has been
//! reached. The terminal chunk's signature is what says that the sender meant to stop there, so a body without it is cut off.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// `0;chunk-signature=`, 64 hexadecimal digits, CRLF, CRLF.
const TERMINAL_BYTES: usize = 18 + 64 + 4;
const INTRODUCTION: &[u8] = b"0;chunk-signature=";

/// The terminal chunk did not come.
#[derive(Debug)]
pub(crate) struct Unterminated;

impl fmt::Display for Unterminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body ends without its terminal chunk")
    }
}

impl std::error::Error for Unterminated {}

/// A body that must end in a terminal chunk.
pub(crate) struct Terminated<B> {
    body: B,
    /// The last bytes that went by, one more than a terminal chunk has.
    tail: Vec<u8>,
    ended: bool,
}

impl<B> Terminated<B> {
    /// Watches a body.
    pub(crate) fn new(body: B) -> Self {
        Self { body, tail: Vec::new(), ended: false }
    }

    fn see(&mut self, data: &[u8]) {
        let keep = TERMINAL_BYTES + 1;
        let data = &data[data.len().saturating_sub(keep)..];
        let over = (self.tail.len() + data.len()).saturating_sub(keep);
        self.tail.drain(..over);
        self.tail.extend_from_slice(data);
    }

    fn is_terminated(&self) -> bool {
        // The last CRLF may be missing: the chunk and its signature are complete without it.
        let tail = &self.tail[..];
        let tail = tail.strip_suffix(b"\r\n\r\n").or_else(|| tail.strip_suffix(b"\r\n")).unwrap_or_default();
        let Some(start) = tail.len().checked_sub(INTRODUCTION.len() + 64) else { return false };
        let (before, chunk) = tail.split_at(start);
        let (introduction, signature) = chunk.split_at(INTRODUCTION.len());
        introduction == INTRODUCTION && signature.iter().all(u8::is_ascii_hexdigit) && before.last().is_none_or(|b| *b == b'\n')
    }
}

impl<B> Body for Terminated<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    self.see(&data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None if self.ended || self.is_terminated() => Poll::Ready(None),
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(Box::new(Unterminated))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    async fn ends(bytes: Vec<u8>, frame: usize) -> bool {
        let frames: Vec<_> =
            bytes.chunks(frame).map(|c| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(c)))).collect();
        let body = StreamBody::new(futures::stream::iter(frames).boxed());
        Terminated::new(body).collect().await.is_ok()
    }

    #[tokio::test]
    async fn only_a_terminal_chunk_ends_a_body() {
        let signature = "a".repeat(64);
        let data = format!("5;chunk-signature={signature}\r\nhello\r\n");
        let end = format!("0;chunk-signature={signature}\r\n");
        for frame in [1, 7, 1000] {
            assert!(ends(format!("{data}{end}\r\n").into(), frame).await);
            assert!(ends(format!("{data}{end}").into(), frame).await);
            assert!(ends(format!("{end}\r\n").into(), frame).await);
            assert!(!ends(data.clone().into(), frame).await);
            assert!(!ends(format!("{data}{}", &end[..40]).into(), frame).await);
            assert!(!ends(format!("{data}1{end}\r\n").into(), frame).await, "a chunk of 16 bytes is not the end");
            assert!(!ends(Vec::new(), frame).await);
        }
    }
}
