//! What the processor can do.

#![allow(unsafe_code, reason = "calls functions that are compiled for instructions which only some processors have")]

use crate::lanes::compress;
use crate::{BLOCK_BYTES, MAX_LANES, State};

/// A way to hash several streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Way);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One stream after the other.
    Serial,
    /// 8 lanes. Only [`Kernel::detect`] and [`Kernel::available`] make it, when the processor has AVX2.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2,
    /// 4, 8 or 16 lanes, likewise, with AVX-512F and VL.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512,
}

impl Kernel {
    /// One stream after the other, in plain Rust.
    pub const SERIAL: Self = Self(Way::Serial);

    /// The best that this processor can do. Cheap: the answer is remembered.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl") {
                return Self(Way::Avx512);
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                return Self(Way::Avx2);
            }
        }
        Self::SERIAL
    }

    /// All that this processor can do, for tests and benches that compare them.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "elsewhere there is one")]
        let mut kernels = vec![Self::SERIAL];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                kernels.push(Self(Way::Avx2));
            }
            if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl") {
                kernels.push(Self(Way::Avx512));
            }
        }
        kernels
    }

    /// Its name: `serial`, `avx2`, `avx512`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Way::Serial => "serial",
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx2 => "avx2",
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 => "avx512",
        }
    }

    /// The most streams that it takes side by side.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self.0 {
            Way::Serial => 1,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx2 => 8,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 => MAX_LANES,
        }
    }

    /// From how many streams on side by side costs less than one after the other. `docs/performance/put.md` has the figures.
    #[must_use]
    pub fn pays_from(self) -> usize {
        match self.0 {
            Way::Serial => usize::MAX,
            // Without a rotation and functions of three, a step takes about twice as long as a scalar one.
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx2 => 2,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 => 2,
        }
    }

    /// Takes `blocks` blocks of each stream, which must be there; at most [`lanes`](Self::lanes) streams, at least one.
    pub(crate) fn run(self, states: &mut [State], data: &[&[u8]], blocks: usize) {
        let count = states.len();
        if count < self.pays_from() {
            return one_by_one(states, data, blocks);
        }
        match self.0 {
            Way::Serial => one_by_one(states, data, blocks),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx2 => {
                // SAFETY: the variant exists only where the processor has AVX2.
                padded::<8>(states, data, |states, data| unsafe { crate::x86::eight_avx2(states, data, blocks) });
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 if count <= 4 => {
                // SAFETY: the variant exists only where the processor has AVX-512F and VL.
                padded::<4>(states, data, |states, data| unsafe { crate::x86::four(states, data, blocks) });
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 if count <= 8 => {
                // SAFETY: as above.
                padded::<8>(states, data, |states, data| unsafe { crate::x86::eight(states, data, blocks) });
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Way::Avx512 => {
                // SAFETY: as above.
                padded::<16>(states, data, |states, data| unsafe { crate::x86::sixteen(states, data, blocks) });
            }
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::detect()
    }
}

/// Fills the lanes that nobody needs with the first stream's data: they cost nothing, and their results go nowhere.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn padded<const COUNT: usize>(states: &mut [State], data: &[&[u8]], run: impl Fn(&mut [State; COUNT], &[&[u8]; COUNT])) {
    let mut all = [[0; 4]; COUNT];
    let mut from = [data[0]; COUNT];
    all[..states.len()].copy_from_slice(states);
    from[..data.len()].copy_from_slice(data);
    run(&mut all, &from);
    states.copy_from_slice(&all[..states.len()]);
}

fn one_by_one(states: &mut [State], data: &[&[u8]], blocks: usize) {
    for (state, data) in states.iter_mut().zip(data) {
        scalar(state, &data[..blocks * BLOCK_BYTES]);
    }
}

/// One stream, whole blocks.
pub(crate) fn scalar(state: &mut State, data: &[u8]) {
    for block in data.as_chunks::<BLOCK_BYTES>().0 {
        let (words, _) = block.as_chunks::<4>();
        let words = std::array::from_fn(|at| u32::from_le_bytes(words[at]));
        // SAFETY: plain integers, on every processor.
        unsafe { compress(state, &words) };
    }
}
