//! MD5 (RFC 1321) of several streams at once.
//!
//! One MD5 is a chain in which every step waits for the one before: a processor spends most of it waiting, at 0.6 to 0.7 GB/s.
//! Streams do not wait for each other. Put side by side into the lanes of vector registers, 4, 8 or 16 of them go through the
//! same steps together in the time of one.
//!
//! [`Md5`] is one stream, [`update_all`] moves several on together. What the processor can do is found out at run time
//! ([`Kernel::detect`]); where it has no vectors that pay, and under Miri, everything is plain Rust, one stream after the other.
//!
//! MD5 is broken as a protection against people. S3 uses it as an ETag.

mod kernel;
mod lanes;
mod stream;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;

pub use kernel::Kernel;
pub use stream::{Md5, update_all};

/// Bytes of a block: MD5 takes its input in steps of it.
pub const BLOCK_BYTES: usize = 64;
/// The most streams that go side by side.
pub const MAX_LANES: usize = 16;

/// Where a stream is after the blocks so far.
type State = [u32; 4];
