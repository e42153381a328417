//! The S3 front end: one file per operation, the auth and access adapters, the only S3 error table.
//!
//! s3s verifies signatures (but the usual ones: `signature`), decodes aws-chunked bodies and parses POST forms. Everything after that is ours: every
//! request but a form is taken over by a route as soon as its signature has been verified, because what s3s does next (typed inputs, typed
//! outputs) refuses headers that AWS ignores, cannot say what AWS says in an error, fails a whole listing on one odd key, and
//! costs more than reading the few headers that matter.
//!
//! - [`Front`] is the door; `route` takes requests over, `access` decides who may, `operation` finds out what is wanted.
//! - `error` is the only place where an error becomes a code, a status and XML.
//! - `iam` is what `aws iam` and `aws sts` speak to at the same door.
//! - `ops` holds the operations. A new one is a file there, a name in `operation` and a line in `ops/mod.rs`.

mod access;
mod acl;
mod address;
mod auth;
mod body;
mod bucket_encryption;
mod call;
mod checksums;
mod conditions;
mod cors;
mod dates;
mod encryption;
mod error;
mod file_body;
mod form;
mod front;
mod headers;
mod iam;
mod lifecycle;
mod listing;
mod lock;
mod operation;
mod ops;
mod parts;
mod policy;
mod query;
mod range;
mod redirect;
mod route;
mod settings;
mod signature;
mod signature_v2;
mod tagging;
mod terminal;
#[cfg(test)]
mod tests;
mod wellformed;
mod xml;

pub use file_body::{FileBody, SendsFiles};
pub use front::{Front, Operation, Parts, Peer, RequestFacts};
pub use settings::{Settings, SignatureV2};
