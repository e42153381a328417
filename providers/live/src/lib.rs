//! Objects in memory that can be followed while they grow, in two kinds:
//!
//! - **stream**: an object of bytes. An append at its end adds to it; of the bytes, the last [`Settings::window_bytes`] are kept, none of them
//!   longer than [`Settings::window`], and every byte keeps its offset.
//! - **pubsub**: a topic. A put publishes one message; a read is the last [`Settings::messages`] of them. With a [`Settings::log`] they are
//!   on disk too, and survive the process.
//!
//! Promises:
//!
//! - **Slow readers cost nothing.** A follower is a number, the next one that it wants; what it reads is shared by all.
//! - **No gap in silence.** A follower that wants what is not kept any more is told how much it missed.
//! - **Bounded**: messages and windows, objects, followers, and all bytes together.

mod board;
mod feed;
mod journal;
mod limits;
mod log;
mod pubsub;
mod settings;
mod stream;

pub use pubsub::Topics;
pub use settings::{STREAM_SETTINGS, Settings, TOPIC_SETTINGS};
pub use stream::Streams;
