//! The product: objects on (namespace, key). Speaks no protocol.
//!
//! What the room promises:
//! - **One open per read.** Metadata and bytes of an answer are of the same object, and a plain read is one call of the provider.
//! - **A handle is open as long as a body moves**, and closed when the body is dropped. A body that breaks off ends in an error,
//!   never as if it were whole.
//! - **What is written appears whole, in a bucket that exists.** Conditions on the destination are the provider's to keep.
//! - **One listing over all mounts**, in key order; what a mount hides of another is not seen; each page costs what it returns.

mod append;
pub mod attribute;
mod body;
mod conditions;
mod copy;
mod encrypted;
mod follow;
mod layer;
mod link;
mod list;
pub mod lock;
mod place;
mod read;
mod rename;
mod request;
mod transition;
mod versions;
mod write;

pub use layer::Objects;
pub use rename::RenameRequest;
pub use request::{
    CopyRequest, ETagCondition, Found, IfRange, LinkRequest, OpenBody, Opened, PartCopy, ReadConditions, ReadRequest,
};
pub use versions::{Removal, Removed};

#[cfg(test)]
mod tests;
