//! Watching a body on its way to a mount.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::StreamExt;
use parking_lot::Mutex;
use sluice_provider::{BodyFault, Error, ErrorKind, PutBody, Result, Seal};

use super::{Gate, Permit};
use crate::handles::Guard;

/// What is known of a body that was watched. Keeps the handle open and the gate's permit until it is dropped: to be dropped after
/// the provider has answered. The body keeps both as well, so that a request that was given up does not let go of them before a
/// provider that is publishing already.
#[derive(Debug)]
pub struct Passage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    guard: Option<Guard>,
    gate: Option<Gate>,
    permit: Mutex<Option<Permit>>,
    seal: Arc<OnceLock<Seal>>,
    bytes: AtomicU64,
}

impl Passage {
    /// How many bytes went by.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// The seal, once the body ended cleanly.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        self.0.seal.get()
    }
}

/// Lets a body pass. Each chunk touches the handle; when the handle is closed from outside, the body ends in an error. With a gate,
/// the clean end comes only once the gate has let this write in: whoever publishes after it publishes into a bucket that exists.
#[must_use]
pub fn watch(body: PutBody, guard: Option<Guard>, gate: Option<Gate>) -> (PutBody, Passage) {
    let size = body.size();
    let seal = Arc::new(OnceLock::new());
    let bytes = AtomicU64::new(0);
    let inner = Arc::new(Inner { guard, gate, permit: Mutex::new(None), seal: Arc::clone(&seal), bytes });
    let kept = Arc::clone(&inner);
    let stream = futures::stream::unfold(Some((body, Arc::clone(&inner))), |state| async move {
        let (mut body, inner) = state?;
        match inner.step(&mut body).await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some((body, inner)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    // The state above goes with the end of the stream, this with the body.
    let stream = stream.inspect(move |_| {
        let _ = &kept;
    });
    (PutBody::new(stream.boxed(), size, seal), Passage(inner))
}

impl Inner {
    async fn step(&self, body: &mut PutBody) -> Result<Option<bytes::Bytes>> {
        let chunk = match &self.guard {
            None => body.chunk().await?,
            Some(guard) => tokio::select! {
                biased;
                chunk = body.chunk() => chunk?,
                () = guard.closed() => {
                    return Err(Error::new(ErrorKind::Body(BodyFault::TimedOut), "write whose handle was closed"));
                }
            },
        };
        if let Some(chunk) = chunk {
            self.bytes.fetch_add(chunk.len() as u64, Ordering::AcqRel);
            self.guard.as_ref().inspect(|guard| guard.touch());
            return Ok(Some(chunk));
        }
        if let Some(gate) = &self.gate {
            let gone = |error| Error::new(ErrorKind::NotFound, "publish").caused_by(error);
            let permit = gate.enter().await.map_err(gone)?;
            *self.permit.lock() = Some(permit);
        }
        // Set once: the stream ends here.
        let _ = self.seal.set(body.seal()?);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;
    use futures::FutureExt;
    use sluice_provider::{Attributes, ETag};

    use super::*;

    #[tokio::test]
    async fn a_request_that_is_gone_does_not_let_go_of_the_gate_before_the_provider_does() {
        let gate = Gate::new();
        let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() };
        let body = PutBody::from_bytes(Bytes::from_static(b"x"), seal);
        let (mut body, passage) = watch(body, None, Some(gate.clone()));
        while body.chunk().await.unwrap().is_some() {}
        drop(passage);
        assert!(gate.enter_alone().now_or_never().is_none(), "the provider still has the body");
        drop(body);
        assert!(gate.enter_alone().now_or_never().unwrap().is_ok());
    }
}
