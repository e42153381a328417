//! Bucket ⇄ namespace: loaded once, outside any lock; settings and mounts of each.
//!
//! What the room promises:
//! - **Loaded once.** Of many concurrent first requests one loads the bucket, the others wait for it. A load that fails is not
//!   remembered, and an unknown name leaves nothing behind.
//! - **One bad mount is one bad mount.** It answers why it cannot be used and is tried again; the namespace's other keys work.
//! - **No orphans.** A write publishes only while it holds the namespace's [`Gate`]; deleting the bucket closes the gate first and
//!   then looks again whether the bucket is empty.

mod gate;
mod name;
mod namespace;
mod opening;
mod passage;
mod refresh;
mod registry;
mod versioning;

pub use gate::{Gate, Permit};
pub use name::check_bucket_name;
pub use namespace::Namespace;
pub use passage::{Passage, watch};
pub use registry::{DefaultMount, Namespaces};
