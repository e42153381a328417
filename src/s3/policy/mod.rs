//! Policies at work: which action a request is, what its condition keys hold, and what the bucket's policy says to it. The
//! language itself is [`crate::tokens::policy`].
//!
//! As AWS combines them: what the policy denies is denied to everybody; what it allows is allowed; where it is silent, ownership
//! and lists decide. The owner of a bucket, and root, can always read, change and remove the policy itself, so that no mistake in
//! it locks them out.
//!
//! Where a mount has an authoriser, that is asked about what policies have not refused, and can only refuse.
//!
//! A bucket without a policy costs one look at its settings.

mod actions;
mod authorisers;
mod decide;
mod values;

pub(crate) use decide::{About, decide, decide_alone, is_public, is_there};
pub(crate) use values::values_of_request;

/// The settings document of a bucket that holds its policy, as it was put.
pub(crate) const SETTING: &str = "policy";
