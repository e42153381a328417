//! Signatures beyond what the framework verifies: which public host a request was signed for behind a proxy ([`with_public_host`]), Version
//! 4A ([`v4a`]), and what is wrong with a signature that does not match ([`help`]).
//!
//! The framework verifies every request that is let in. What is done here before it only puts a request into the form in which it was
//! signed, and only after its signature has been found valid in that form; what is done after it only explains.

mod help;
mod hosts;
mod signed;
pub(super) mod v4a;
mod v4a_chunks;

pub(super) use help::{bytes, explain, is_about_signature as is_about};
pub(super) use hosts::with_public_host;
pub(super) use signed::Head;
