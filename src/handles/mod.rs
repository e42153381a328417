//! What is open right now. Every GET, PUT and part holds a [`Guard`]; the sweep ends what stopped moving.

mod settings;

pub use settings::Settings;

/// The registry: 64 shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry;

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A GET.
    Read,
    /// A PUT, copy or complete.
    Write,
    /// A part.
    Part,
}

/// An open handle. Closed on drop, wherever that happens.
#[derive(Debug)]
pub struct Guard;

impl Registry {
    /// Opens a handle on a key of a bucket.
    #[must_use]
    pub fn open(&self, _bucket: &str, _key: &str, _purpose: Purpose) -> Guard {
        todo!()
    }
    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
}

impl Guard {
    /// Notes that bytes moved, so that the sweep leaves the handle alone.
    pub fn touch(&self) {
        todo!()
    }
    /// Resolves when the sweep (or a forced shutdown) has closed the handle from outside: the owner must stop.
    pub async fn closed(&self) {
        todo!()
    }
    /// Whether the sweep has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}
