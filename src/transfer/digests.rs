//! The digests of one body in the making.

use sluice_md5_lanes::Md5;

use super::{Algorithm, Hasher};

/// The MD5 of a body, and whatever else is asked of it, over the same bytes.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) md5: Md5,
    /// Checksums in the making; `None` is one that is known already.
    pub(super) sums: Vec<(Algorithm, Option<Hasher>)>,
}

impl Digests {
    pub(super) fn new(sums: Vec<(Algorithm, Option<Hasher>)>) -> Self {
        Self { md5: Md5::new(), sums }
    }

    /// Takes more bytes, on this thread.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.update_sums(bytes);
    }

    /// Everything but the MD5 takes more bytes.
    pub(super) fn update_sums(&mut self, bytes: &[u8]) {
        self.sums.iter_mut().filter_map(|(_, sum)| sum.as_mut()).for_each(|hasher| hasher.update(bytes));
    }
}
