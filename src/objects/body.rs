//! The bytes of a read, with its handle.

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{ByteStream, Error, ErrorKind, Result};

use super::OpenBody;
use crate::handles::Guard;
use crate::transfer::Frames;

/// The frames of a read. While frames are to come the handle rides along, closed when the body is dropped; each frame touches it,
/// and when it is closed from outside the body ends in an error.
pub(super) fn open_body(frames: Frames, guard: Guard) -> OpenBody {
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

fn guarded(stream: ByteStream, guard: Guard) -> ByteStream {
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

async fn next(stream: &mut ByteStream, guard: &Guard) -> Result<Option<Bytes>> {
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
