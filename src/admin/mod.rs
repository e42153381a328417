//! The admin listener's service: health, metrics, and the JSON API for keys, revocations, mounts and handles. Also its client, for the command line.
//!
//! Health and metrics are open to whoever reaches the listener, which is loopback unless configured otherwise; all else wants the admin
//! token. It refuses bodies beyond 2 MiB, and answers every error as `{"error":{"code","message","request_id"}}`.

mod answer;
mod auth;
mod client;
mod health;
mod keys;
mod lifecycle;
mod mounts;
mod opstats;
mod reload;
mod service;
mod settings;
mod token;

pub use answer::fault_document;
pub use client::{Client, ClientError};
pub use reload::{Reload, Reloaded};
pub use service::{Admin, Parts, Peer};
pub use settings::Settings;
pub use token::{admin_token, read_admin_token};

#[cfg(test)]
mod tests;
