//! Objects in memory, for scratch data, tests and as the reference of what the contract means.
//!
//! - **A read copies nothing.** A body is kept in blocks of at most [`BLOCK_BYTES`]; a read is a slice of a block, or a stream of
//!   slices. A copy and a completed upload share the blocks of what they came from.
//! - **Bounded.** Every byte held counts towards [`Settings::quota_bytes`]: bodies, also those still on their way in and those
//!   that a reader holds after a delete; parts of uploads; keys and attributes. What does not fit is refused with
//!   [`QuotaExceeded`](sluice_provider::ErrorKind::QuotaExceeded), and what is dropped gives its bytes back at that moment.
//! - **Atomic.** A body is gathered without any lock; conditions are looked at and the change made under one short lock.
//! - **Listing is a seek**, also past the keys that a delimiter rolls up.
//! - Nothing survives the process: [`Features::persistent`](sluice_provider::Features) is false.

mod append;
mod blocks;
mod index;
mod provider;
mod quota;
mod settings;
mod uploads;
mod versions;

pub use blocks::BLOCK_BYTES;
pub use provider::Memory;
pub use settings::Settings;
