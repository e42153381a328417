//! `[server]`

use serde::{Deserialize, Serialize};

/// The S3 listener and its limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port of the S3 listener. Plain HTTP: put TLS in front of anything but loopback.
    pub listen: String,
    /// Seconds until the head of an answer, counted from the last byte of the request that arrived; then the request is given up
    /// with 503. Copies and the completion of multipart uploads, whose work grows with the object, are exempt.
    pub request_timeout_secs: u64,
    /// Seconds without a byte moving after which a connection is closed: while it waits for a request, for the rest of a body, or
    /// for the client to read an answer. A client that moves, however slowly, is never cut.
    pub idle_timeout_secs: u64,
    /// Seconds that a stop (SIGTERM, Ctrl+C) waits for requests under way; what remains then is broken off.
    pub shutdown_timeout_secs: u64,
    /// Requests at once, counted until the end of their bodies; one more is answered 503 SlowDown.
    pub max_concurrent_requests: usize,
    /// Connections at once; one more is closed unanswered.
    pub max_connections: usize,
    /// Whether large bodies that are files go from the page cache to the socket without a copy (sendfile). It saves most of the
    /// processor time of a large GET; off only to find out whether it is the cause of something.
    pub sendfile: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9000".to_owned(),
            request_timeout_secs: 30,
            idle_timeout_secs: 30,
            shutdown_timeout_secs: 30,
            max_concurrent_requests: 1000,
            max_connections: 10_000,
            sendfile: true,
        }
    }
}
