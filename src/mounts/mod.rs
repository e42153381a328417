//! Which provider serves a key: the mount table of a namespace, and the registry of provider kinds.
//!
//! A key belongs to the mount with the longest prefix that is shorter than the key, so that a provider never sees an empty key.
//! A mount that cannot be opened now is a [`LateMount`]: it answers why, tries again, and leaves the other mounts alone.
//! Some mounts serve no keys at all but keep the bytes of a storage class ([`Tiered`]).

mod authorise;
mod hops;
mod late;
#[cfg(feature = "opendal")]
mod overlay;
#[cfg(feature = "wasm")]
mod plugins;
#[cfg(test)]
pub(crate) mod probe;
mod registry;
mod settings;
mod shield;
mod table;
mod tiers;
mod upkeep;

pub use authorise::{Asking, Authorise, Sender, authoriser, refusing};
pub use hops::{hops, with_hops};
pub use late::LateMount;
#[cfg(feature = "wasm")]
pub use plugins::place_plugins;
pub use registry::{
    KINDS, Kind, MAX_PREFIX_BYTES, Opener, check_prefix, limit_listing_cache, listing_cache, open, opener, shareable,
    upstream_counts, waiting_work,
};
pub use settings::Settings;
pub use shield::{Shield, ShieldLimits};
pub use table::{Mount, MountTable, Segment, Segments, Until};
pub use tiers::{
    Blob, CLASS_ATTRIBUTE, CLASS_PREFIX, CLASSES, Carried, Sweeping, Tiered, Transition, class_of, is_stranded, rank, refers_to,
};
pub use upkeep::{Sweep, Upkeep};
