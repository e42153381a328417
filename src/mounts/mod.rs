//! Which provider serves a key: the mount table of a namespace, and the registry of provider kinds.

mod registry;
mod table;

pub use registry::open;
pub use table::{Mount, MountTable};
