//! Streams, and batches of them.

use crate::kernel::scalar;
use crate::{BLOCK_BYTES, Kernel, State};

/// One MD5 in the making.
#[derive(Clone, Debug)]
pub struct Md5 {
    state: State,
    /// Bytes so far.
    bytes: u64,
    /// The last bytes, until a block of them is there.
    tail: [u8; BLOCK_BYTES],
}

impl Default for Md5 {
    fn default() -> Self {
        Self { state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476], bytes: 0, tail: [0; BLOCK_BYTES] }
    }
}

impl Md5 {
    /// Begins.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The MD5 of bytes at hand.
    #[must_use]
    pub fn digest(bytes: &[u8]) -> [u8; 16] {
        let mut md5 = Self::new();
        md5.update(bytes);
        md5.finish()
    }

    /// Takes more bytes, alone.
    pub fn update(&mut self, bytes: &[u8]) {
        let whole = self.begin(bytes);
        scalar(&mut self.state, whole);
    }

    /// The digest.
    #[must_use]
    pub fn finish(mut self) -> [u8; 16] {
        let bits = self.bytes.wrapping_mul(8);
        let filled = self.filled();
        let mut end = [0; 2 * BLOCK_BYTES];
        end[..filled].copy_from_slice(&self.tail[..filled]);
        end[filled] = 0x80;
        let length = if filled < BLOCK_BYTES - 8 { BLOCK_BYTES } else { 2 * BLOCK_BYTES };
        end[length - 8..length].copy_from_slice(&bits.to_le_bytes());
        scalar(&mut self.state, &end[..length]);
        let mut digest = [0; 16];
        for (four, number) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *four = number.to_le_bytes();
        }
        digest
    }

    /// How much of the tail is taken.
    fn filled(&self) -> usize {
        // Less than a block.
        (self.bytes % BLOCK_BYTES as u64) as usize
    }

    /// Counts the bytes, completes the block that was begun, keeps what will be the next beginning; the whole blocks in between.
    fn begin<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        let filled = self.filled();
        self.bytes = self.bytes.wrapping_add(bytes.len() as u64);
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled));
            self.tail[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < BLOCK_BYTES {
                return &[];
            }
            let tail = self.tail;
            scalar(&mut self.state, &tail);
            bytes = rest;
        }
        let (whole, tail) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        self.tail[..tail.len()].copy_from_slice(tail);
        whole
    }
}

/// Streams take more bytes together: as many side by side as the kernel has lanes, the longest first, and whoever is through
/// makes room for the next.
pub fn update_all(kernel: Kernel, streams: &mut [(&mut Md5, &[u8])]) {
    if let [(md5, bytes)] = streams {
        return md5.update(bytes);
    }
    // Where each stream's whole blocks are, the shortest last.
    let mut waiting: Vec<(usize, &[u8])> = Vec::with_capacity(streams.len());
    for (index, (md5, bytes)) in streams.iter_mut().enumerate() {
        let whole = md5.begin(bytes);
        if !whole.is_empty() {
            waiting.push((index, whole));
        }
    }
    waiting.sort_unstable_by_key(|(_, whole)| whole.len());
    let lanes = kernel.lanes();
    let mut active: Vec<(usize, &[u8])> = Vec::with_capacity(lanes);
    let mut states: Vec<State> = Vec::with_capacity(lanes);
    let mut data: Vec<&[u8]> = Vec::with_capacity(lanes);
    loop {
        while active.len() < lanes
            && let Some(next) = waiting.pop()
        {
            active.push(next);
        }
        let Some(shortest) = active.iter().map(|(_, whole)| whole.len() / BLOCK_BYTES).min() else { return };
        states.clear();
        data.clear();
        for (index, whole) in &active {
            states.push(streams[*index].0.state);
            data.push(whole);
        }
        kernel.run(&mut states, &data, shortest);
        for ((index, whole), state) in active.iter_mut().zip(&states) {
            streams[*index].0.state = *state;
            *whole = &whole[shortest * BLOCK_BYTES..];
        }
        active.retain(|(_, whole)| !whole.is_empty());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use md5::Digest as _;
    use proptest::prelude::*;

    use super::*;

    fn reference(bytes: &[u8]) -> [u8; 16] {
        md5::Md5::digest(bytes).into()
    }

    // RFC 1321, A.5.
    #[test]
    fn the_test_suite_of_the_rfc() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex::encode(Md5::digest(text.as_bytes())), digest);
        }
    }

    #[test]
    fn every_length_around_a_block() {
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            assert_eq!(Md5::digest(&bytes), reference(&bytes), "{length}");
        }
    }

    /// Every number of streams with every kernel, unequal lengths, one lane never disturbing another.
    #[test]
    fn any_number_of_streams_side_by_side() {
        for kernel in Kernel::available() {
            for count in 0..=20usize {
                let bodies: Vec<Vec<u8>> =
                    (0..count).map(|n| (0..64 * (n % 5) + 13 * n).map(|at| (at * 31 + n * 7) as u8).collect()).collect();
                let mut streams: Vec<Md5> = vec![Md5::new(); count];
                let mut jobs: Vec<_> = streams.iter_mut().zip(&bodies).map(|(md5, body)| (md5, body.as_slice())).collect();
                update_all(kernel, &mut jobs);
                for (md5, body) in streams.into_iter().zip(&bodies) {
                    assert_eq!(md5.finish(), reference(body), "{} {count}", kernel.name());
                }
            }
        }
    }

    #[test]
    fn says_what_it_is() {
        let kernels = Kernel::available();
        assert_eq!(kernels.first().map(|k| (k.name(), k.lanes())), Some(("serial", 1)));
        assert_eq!(kernels.last(), Some(&Kernel::detect()));
        assert!(kernels.iter().all(|k| *k == Kernel::SERIAL || k.pays_from() <= k.lanes()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, ..ProptestConfig::default() })]

        /// Rounds of pieces of any length, to any of the streams.
        #[test]
        fn pieces_in_any_company_make_the_same_digests(
            rounds in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..19), 0..4),
        ) {
            for kernel in Kernel::available() {
                let mut streams = vec![Md5::new(); 19];
                let mut wholes = vec![Vec::new(); 19];
                for round in &rounds {
                    for (whole, piece) in wholes.iter_mut().zip(round) {
                        whole.extend_from_slice(piece);
                    }
                    let mut jobs: Vec<_> = streams.iter_mut().zip(round).map(|(md5, piece)| (md5, piece.as_slice())).collect();
                    update_all(kernel, &mut jobs);
                }
                for (md5, whole) in streams.into_iter().zip(&wholes) {
                    prop_assert_eq!(md5.finish(), reference(whole));
                }
            }
        }
    }
}
