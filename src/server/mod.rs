//! Listeners, connections, and the edge of every request: its id, its place among those in flight, its time limits, its metrics and
//! its line in the log. Generic over the service behind it.
//!
//! It promises that a client that moves is never cut and one that does not move is; that too many requests are told so at once; that
//! a panic in one request harms no other; and that a drain closes the listener at once and lets bodies that are under way end.
//! Together with the service's own signature in `s3`, the only room that names hyper.

mod answer_body;
mod connection;
mod edge;
mod fault;
mod files;
mod labels;
mod listener;
mod proxies;
mod refusal;
mod request_body;
mod settings;
mod stream;
mod streams;
mod tls;
mod unsent;

pub use answer_body::AnswerBody;
pub use edge::{Edge, Service};
pub use fault::{Fault, s3_fault};
pub use files::{Chunk, FileChunk};
pub use listener::{Limits, Server};
pub use proxies::Proxies;
pub use request_body::{BodyError, RequestBody};
pub use settings::{ClientAuth, Settings};
pub use tls::{Tls, TlsError, TlsFiles};

#[cfg(test)]
mod tests;
