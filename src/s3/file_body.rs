//! Bodies that go around the framework, which knows bytes only: files that the connection sends by itself.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::transfer::PieceStream;

/// Among the extensions of a request whose connection sends files by itself.
#[derive(Clone, Copy, Debug)]
pub struct SendsFiles;

/// Among the extensions of an answer whose body is a file: to be sent in place of the answer's own, which is empty. Only where the
/// request had [`SendsFiles`].
#[derive(Clone)]
pub struct FileBody {
    // Extensions can be cloned, a body cannot: whoever comes first gets it.
    pieces: Arc<Mutex<Option<PieceStream>>>,
    bytes: u64,
}

impl FileBody {
    pub(crate) fn new(pieces: PieceStream, bytes: u64) -> Self {
        Self { pieces: Arc::new(Mutex::new(Some(pieces))), bytes }
    }

    /// The body and its length in bytes; `None` when somebody else took it.
    #[must_use]
    pub fn take(&self) -> Option<(PieceStream, u64)> {
        Some((self.pieces.lock().take()?, self.bytes))
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
