//! What only some stores can do: grow an object at its end, give it another name, tell of what comes, hand out bytes by themselves.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{ETag, Key, ObjectInfo, PutBody, PutOptions, PutWhen, Result, Seal};

/// The attribute of an answer that numbers what was written, where the store numbers it: a message, or the first byte of what was
/// appended. Never stored.
pub const SEQUENCE_ATTRIBUTE: &str = "sequence";

/// What an object becomes when something is appended to it. Asked of the object that is about to grow, in one step with the change; what it
/// answers is the ETag and all the attributes of the grown object, and an error leaves the object as it was. It must be quick and must
/// not block.
#[derive(Clone)]
pub struct Growth(Arc<Grow>);

type Grow = dyn Fn(&ObjectInfo, &Appended) -> Result<Seal> + Send + Sync;

/// What is being appended.
#[derive(Clone, Debug)]
pub struct Appended {
    /// How many bytes.
    pub bytes: u64,
    /// The seal of these bytes alone.
    pub seal: Seal,
}

impl Growth {
    /// This rule.
    pub fn new(grow: impl Fn(&ObjectInfo, &Appended) -> Result<Seal> + Send + Sync + 'static) -> Self {
        Self(Arc::new(grow))
    }

    /// Asks.
    ///
    /// # Errors
    /// Whatever the rule says: the object is not to grow.
    pub fn of(&self, info: &ObjectInfo, appended: &Appended) -> Result<Seal> {
        (self.0)(info, appended)
    }
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Growth")
    }
}

/// How to append.
#[derive(Clone, Debug)]
pub struct AppendOptions {
    /// The size in bytes that the object must have: 0 also for none.
    pub offset: u64,
    /// The condition, and the attributes of an object that is made by this call.
    pub put: PutOptions,
    /// What an object that is there becomes.
    pub growth: Growth,
}

/// The facet of a provider whose objects can grow. What is appended appears whole or not at all, the work does not depend on the size of
/// the object, and a read that is under way goes on with what it found. Of N racing calls for the same offset exactly one wins.
#[async_trait]
pub trait Append: Send + Sync {
    /// Appends the body. Where there is no object and the offset is 0, it becomes one.
    ///
    /// # Errors
    /// [`ErrorKind::WriteOffset`](crate::ErrorKind::WriteOffset) when the object has another size, that of [`Growth`], and those of
    /// [`Provider::put`](crate::Provider::put).
    async fn append(&self, key: &Key, body: PutBody, append: &AppendOptions) -> Result<ObjectInfo>;
}

/// How to rename.
#[derive(Clone, Debug, Default)]
pub struct RenameOptions {
    /// Only when the source has this ETag.
    pub source_if_match: Option<ETag>,
    /// The condition on the destination.
    pub when: PutWhen,
    /// Attributes to set (`Some`) and to remove (`None`) on the way.
    pub set: Vec<(String, Option<String>)>,
}

/// The facet of a provider whose objects can get another name without being copied. There is no moment at which the object has neither
/// name, and none after which it has both. ETag, modification time and attributes stay.
#[async_trait]
pub trait Rename: Send + Sync {
    /// Gives an object another name, replacing what has it. From a key to itself it changes nothing.
    ///
    /// # Errors
    /// As [`Provider::get`](crate::Provider::get) for the source and [`Provider::put`](crate::Provider::put) for the destination.
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo>;
}

/// Where to begin to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowFrom {
    /// With all that is kept.
    #[default]
    Oldest,
    /// With what comes from now on.
    Now,
    /// Behind what was seen: the number of the last message, or how many bytes.
    Since(u64),
}

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, or bytes.
    Data {
        /// The number of the message, or of the first byte.
        sequence: u64,
        /// What it says.
        bytes: Bytes,
    },
    /// So many messages, or bytes, were missed: they are not kept any more. What comes next is told as ever.
    Lagged(u64),
}

/// An object that is being followed.
pub struct Followed {
    /// Its metadata at the beginning.
    pub info: ObjectInfo,
    /// Whether it consists of messages, or of bytes.
    pub messages: bool,
    /// What there is, and then what comes. It ends when the object is sealed or deleted, and in an error when that is unknown.
    pub events: BoxStream<'static, Result<Event>>,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("info", &self.info).field("messages", &self.messages).finish_non_exhaustive()
    }
}

/// The facet of a provider whose objects can be followed. A follower holds a bounded amount of memory however slow it is, and no gap is
/// passed over in silence.
#[async_trait]
pub trait Follow: Send + Sync {
    /// Begins to follow.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), [`ErrorKind::Busy`](crate::ErrorKind::Busy) when there are too many followers,
    /// [`ErrorKind::RangeNotSatisfiable`](crate::ErrorKind::RangeNotSatisfiable) for what nobody can have seen yet.
    async fn follow(&self, key: &Key, from: FollowFrom) -> Result<Followed>;

    /// Seals an object: from now on nothing is added to it, and those who follow it come to its end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where nothing is sealed.
    async fn seal(&self, key: &Key) -> Result<ObjectInfo>;
}

/// A URL under which a store hands out an object by itself, to whoever has it and for a short time. It is a secret: nothing shows it but
/// [`reveal`](Self::reveal).
#[derive(Clone, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// This URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL, for the one who may read the object.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// An object that can be had elsewhere.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Its metadata, as a read would tell it.
    pub info: ObjectInfo,
    /// Where it is.
    pub link: Link,
}

/// The facet of a provider whose store can hand out bytes past the gateway. Whoever changes or looks at bytes on their way (a wrapper
/// that transforms them, say) does not pass it on.
#[async_trait]
pub trait Links: Send + Sync {
    /// Where the bytes of an object can be had, exactly as they are stored; the answer there shows `shown` (names of headers in lower
    /// case) instead of what is stored. `None` when the answer there would tell something else of the object than the gateway does: it
    /// is read as any other then.
    ///
    /// # Errors
    /// As [`Provider::head`](crate::Provider::head).
    async fn link(&self, key: &Key, shown: &[(&'static str, String)]) -> Result<Option<Linked>>;
}

/// One of several places that a mount reads from, as it is right now. For operators.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Where it is. Without secrets.
    pub place: String,
    /// Whether it is the one that is written to.
    pub primary: bool,
    /// Whether reads go there: one that failed is left out until it answers again.
    pub available: bool,
    /// The mean time to an answer, of late; `None` when it was not asked of late.
    pub latency: Option<std::time::Duration>,
    /// The share of reads that failed, of late: 0 to 1.
    pub faults: f64,
    /// Reads that are under way.
    pub in_flight: usize,
}
