//! The bytes of a read, with its handle.

use futures::StreamExt;
use futures::stream::BoxStream;
use sluice_provider::{Body, ByteStream, Error, ErrorKind, Result};

use super::OpenBody;
use crate::handles::Guard;
use crate::transfer::{Frames, arriving, frames, pieces};

/// Bodies up to this many bytes are read: to send them costs more system calls than to copy them.
const COPIED_BYTES: u64 = 64 * 1024;

/// A body of `bytes` bytes in the form that its reader can use.
///
/// # Errors
/// As [`frames`].
pub(super) async fn open(body: Body, bytes: u64, may_send: bool, guard: Guard) -> Result<OpenBody> {
    match body {
        Body::File { file, range } if may_send && bytes > COPIED_BYTES && range.end.checked_sub(range.start) == Some(bytes) => {
            Ok(OpenBody::Pieces(guarded(pieces(file, range), guard)))
        }
        Body::Socket(body) if may_send && bytes > COPIED_BYTES && body.length() == bytes => {
            Ok(OpenBody::Pieces(guarded(arriving(*body), guard)))
        }
        body => {
            let frames = {
                let _busy = guard.busy();
                frames(body, bytes).await?
            };
            Ok(open_body(frames, guard))
        }
    }
}

/// The frames of a read. While frames are to come the handle rides along, closed when the body is dropped; each frame touches it,
/// and when it is closed from outside the body ends in an error.
fn open_body(frames: Frames, guard: Guard) -> OpenBody {
    match frames {
        Frames::Full(bytes) => OpenBody::Full(bytes),
        Frames::Stream(stream) => OpenBody::Stream(guarded(stream, guard)),
    }
}

/// The same as a stream of chunks, for the way into another object.
pub(super) fn chunks(frames: Frames, guard: Guard) -> ByteStream {
    match frames {
        Frames::Full(bytes) => guarded(futures::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed(), guard),
        Frames::Stream(stream) => guarded(stream, guard),
    }
}

pub(super) fn guarded<T: Send + 'static>(stream: BoxStream<'static, Result<T>>, guard: Guard) -> BoxStream<'static, Result<T>> {
    let reader = Some((stream, guard));
    let frames = futures::stream::unfold(reader, |reader| async move {
        let (mut stream, guard) = reader?;
        match next(&mut stream, &guard).await {
            Ok(None) => None,
            Ok(Some(frame)) => Some((Ok(frame), Some((stream, guard)))),
            // After an error there is nothing more to be had, and the handle is closed.
            Err(error) => Some((Err(error), None)),
        }
    });
    frames.boxed()
}

async fn next<T>(stream: &mut BoxStream<'static, Result<T>>, guard: &Guard) -> Result<Option<T>> {
    let closed = || Error::new(ErrorKind::TimedOut, "read whose handle was closed");
    if guard.is_closed() {
        return Err(closed());
    }
    // The store is at work now, however slow it is: only the time between frames is the reader's.
    let _busy = guard.busy();
    tokio::select! {
        biased;
        frame = stream.next() => frame.transpose(),
        () = guard.closed() => Err(closed()),
    }
}
