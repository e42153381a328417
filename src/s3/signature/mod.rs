//! Signatures where the framework is not enough: which public host a request was signed for behind a proxy ([`with_public_host`]), Version
//! 4A ([`v4a`]), and what is wrong with a signature that does not match ([`help`]); and where it is too much: [`usual`].
//!
//! What is not usual is let in by the framework alone. What is done here before it only puts a request into the form in which it was
//! signed, and only after its signature has been found valid in that form; what is done after it only explains.

mod help;
mod hosts;
mod signed;
mod usual;
pub(super) mod v4a;
mod v4a_chunks;

pub(super) use help::{bytes, explain, is_about_signature as is_about};
pub(super) use hosts::with_public_host;
pub(super) use signed::Head;
pub(super) use usual::{Keys, usual};
