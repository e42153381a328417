//! Machine code from a file.

#![allow(unsafe_code, reason = "wasmtime runs what it is given here as machine code; the one place where that is said")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Takes what [`Component::serialize`] wrote. Only [`cache`](crate::cache) may call it, with what it has established of the file.
///
/// # Errors
/// When it was written by another engine, or is none.
pub(crate) fn load(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must be what `serialize` wrote. They are from a regular file of this user in a directory of this user, neither of
    // which anybody else can write (checked on the open descriptors), and they have the SHA-256 that was stored with them, so that they are
    // neither cut short nor damaged. That engine and version are the same wasmtime checks itself.
    unsafe { Component::deserialize(engine, bytes) }
}
