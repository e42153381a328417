//! Policies of buckets, identities, sessions and roles: the access policy language of AWS
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>), read once and asked often.
//!
//! Pure: a [`Policy`] is made from text and decides about a [`Request`]; it knows no bucket, no HTTP and no store.
//! - A document is taken whole or refused with the place of the mistake ([`Malformed`]): what is not understood must not pass for
//!   something that is never met, since a `Deny` that never matches is a hole.
//! - An explicit `Deny` wins; nothing said is [`Decision::Silent`], which the caller must not take for an `Allow`.
//! - How the policies of the one who asks and the policy of what is asked for come together is [`combine`]'s.
//! - In the policy of a bucket an account is meant by its canonical id, its number or its name, on its own or in an ARN
//!   (`arn:aws:iam::ID:root`, `arn:aws:iam:::user/NAME`); a user of an account by `arn:aws:iam::NUMBER:user/NAME`.

#[cfg(test)]
mod cases;
mod combine;
mod condition;
mod document;
mod json;
mod operator;
mod pattern;
mod principal;
mod public;
mod resource;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use combine::{Bounds, combine, permits};
pub use document::{Decision, MAX_BYTES, Malformed, Policy, Request, Said};
pub use principal::{Acting, Principal, Reach};
pub use resource::Target;
