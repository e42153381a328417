//! A bucket of any S3 endpoint as a mount: AWS, another Sluice, Ceph, MinIO.
//!
//! Bodies are streamed both ways. A PUT sends its last piece only when the whole was verified, so that the remote never publishes
//! a bad object; parts of an upload are parts of an upload at the remote; copies are made by the remote. A condition goes along
//! with the change that it guards, or is refused where the remote cannot keep it. Attributes lie as S3's own metadata as far as it
//! can carry them, and in records beside the objects beyond that. `docs/providers/s3.md` tells what each promise costs.

mod answer;
mod chain;
mod client;
mod copy;
mod credentials;
mod delete;
mod form;
mod hops;
mod link;
mod list;
mod multipart;
mod payload;
mod probe;
mod provider;
mod read;
mod remote;
mod request;
mod settings;
mod sweep;
mod upload;
mod upstreams;
mod version_list;
mod versions;
mod wires;
mod write;

pub use hops::{HOPS_HEADER, with_hops};
pub use provider::S3;
pub use settings::{Answers, Conditions, KNOWN_SETTINGS, Select, Settings};
pub use upstreams::{UpstreamUsage, upstream_usage};
