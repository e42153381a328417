//! Bucket policies: the access policy language of AWS
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>), read once and asked often.
//!
//! Pure: a [`Policy`] is made from text and decides about a [`Request`]; it knows no bucket, no HTTP and no store.
//! - A document is taken whole or refused with the place of the mistake ([`Malformed`]): what is not understood must not pass for
//!   something that is never met, since a `Deny` that never matches is a hole.
//! - An explicit `Deny` wins; nothing said is [`Decision::Silent`], which the caller must not take for an `Allow`.
//! - There are no accounts: an identity is an account of its own. It is meant by its canonical id or its name, on its own or in
//!   an ARN (`arn:aws:iam::…:user/NAME`, `arn:aws:iam::ID:root`), whatever account the ARN of a user names.

mod condition;
mod document;
mod json;
mod operator;
mod pattern;
mod principal;
mod public;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use document::{Decision, MAX_BYTES, Malformed, Policy, Request};
pub use principal::Principal;
