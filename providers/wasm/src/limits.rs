//! What an instance may take of the machine.

use wasmtime::ResourceLimiter;

/// Entries of all tables of an instance together. Interpreters have one for each function that they can call by its address.
const MAX_TABLE_ENTRIES: usize = 200_000;

/// Counts memory and tables of one instance of a plugin, over all the modules that it is made of.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_left: usize,
    entries_left: usize,
    /// Whether something was refused: the reason of the trap that follows.
    pub(crate) refused: bool,
}

impl Limiter {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        Self { memory_left: memory_bytes, entries_left: MAX_TABLE_ENTRIES, refused: false }
    }

    /// A trap and not a failed growth: an allocator that gets none would end in a trap of its own, which told less.
    fn take(refused: &mut bool, left: &mut usize, current: usize, desired: usize, what: &str) -> wasmtime::Result<bool> {
        match left.checked_sub(desired.saturating_sub(current)) {
            Some(rest) => {
                *left = rest;
                Ok(true)
            }
            None => {
                *refused = true;
                wasmtime::bail!("the plugin asks for more {what} than it may have: {desired}")
            }
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Self::take(&mut self.refused, &mut self.memory_left, current, desired, "memory")
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Self::take(&mut self.refused, &mut self.entries_left, current, desired, "table entries")
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}
