//! What the end of a call means.

use sluice_provider::{Error, ErrorKind};
use wasmtime::Trap;

use crate::bindings::Failure;

/// A call that did not return: the plugin went over a limit, trapped, or answered what cannot be read.
pub(crate) fn broken(error: wasmtime::Error, out_of_memory: bool, operation: &'static str, plugin: &str) -> Error {
    let (kind, what) = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => (ErrorKind::TimedOut, "the plugin took longer than it may"),
        Some(Trap::OutOfFuel) => (ErrorKind::TimedOut, "the plugin took more instructions than it may"),
        _ if out_of_memory => (ErrorKind::Unavailable, "the plugin wanted more memory than it may have"),
        Some(_) => (ErrorKind::Unavailable, "the plugin trapped"),
        // Not a trap: what it imports and there is not, or an answer that is none.
        None => (ErrorKind::Corrupt, "the plugin broke off, or its answer cannot be read"),
    };
    // The last cause says most; the first is the list of functions that were being called.
    let cause = error.root_cause().to_string();
    tracing::warn!(plugin, operation, cause, "{what}");
    Error::new(kind, operation).with("plugin", plugin).with("because", what).with("cause", cause)
}

/// What the plugin itself says.
pub(crate) fn failed(failure: &Failure, operation: &'static str, plugin: &str) -> Error {
    let (kind, said) = match failure {
        Failure::NotFound => (ErrorKind::NotFound, None),
        Failure::Denied => (ErrorKind::PermissionDenied, None),
        Failure::TooLarge => (ErrorKind::TooLarge, None),
        Failure::Unsupported => (ErrorKind::Unsupported, None),
        Failure::Busy => (ErrorKind::Busy, None),
        Failure::Unavailable(said) => (ErrorKind::Unavailable, Some(said)),
    };
    let error = Error::new(kind, operation).with("plugin", plugin);
    match said {
        // What it says may be anything, and is for a log.
        Some(said) => error.with("it says", format!("{:?}", said.chars().take(200).collect::<String>())),
        None => error,
    }
}
