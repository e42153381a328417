//! Plugins as mounts: WebAssembly components that keep objects, transform what is read, or check what is written; and such as decide on
//! requests for what is in a mount.
//!
//! A plugin is one file `NAME.wasm` in the plugin directory, a component that exports interfaces of the package `sluice:provider`
//! (`wit/provider.wit`). What the crate promises:
//!
//! - **No authority.** A plugin sees the values of its calls, the `config.` settings of its mount, the clock and random numbers. It has no
//!   files, no network, no environment and no other mount; what it imports beyond that ends the call that uses it.
//! - **Limits.** Each call has its instructions, its wall-clock time, its memory, and the size of its answer. One that goes over is
//!   stopped, its instance is thrown away, and the call is an error of its mount and of nothing else. What a plugin answers is checked
//!   before it is believed.
//! - **Nothing blocks.** Plugins run on the blocking pool, on so many threads as all mounts together may have instances busy.
//! - **Swapped under way.** A file that changes is compiled beside the one in use and takes its place; calls in flight end on the one that
//!   they began with. A file that does not compile changes nothing.
//! - **Compiled once.** Machine code is kept by the hash of the component, in memory and in a directory of the gateway's own, from which it
//!   is only loaded while nobody else can write there.
//!
//! Objects are values of bounded size here: they are in memory as a whole. `docs/providers/wasm.md` has the guide.

mod answer;
mod artifact;
mod authoriser;
mod bindings;
mod cache;
mod call;
mod filter;
mod host;
mod imports;
mod limits;
mod objects;
mod plugin;
mod pool;
mod settings;
mod ticker;
mod watch;

pub use authoriser::{Authoriser, Principal, Request, Verdict};
pub use host::{Host, Places, open};
pub use settings::{CONFIG_PREFIX, KNOWN_SETTINGS, OVER_PREFIX, Settings};
