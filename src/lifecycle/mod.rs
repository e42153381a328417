//! What a bucket lets go of, or moves elsewhere, by itself: objects and unfinished uploads, when a rule of its configuration says so
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lifecycle-mgmt.html>).
//!
//! - `rules` is the configuration, and what it says about one object. It looks at nothing but what it is given.
//! - `scan` walks over a bucket and finds what is due, a page at a time.
//! - `run` carries it out, or tells what would be carried out: a plan and a run are the same walk.
//! - `transitions` is the part of the rules that moves objects to other storage classes; `sweep` clears up behind it.
//! - `lease` has one gateway of several do it at a time.

mod lease;
mod rules;
mod run;
mod scan;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;
mod transitions;

pub use lease::Lease;
pub use rules::{Configuration, Expiration, Filter, FilterForm, NoncurrentExpiration, Rule, Subject};
pub use run::{Lifecycle, Tally};
pub use scan::{Action, Step};
pub use settings::Settings;
pub use transitions::{DueMove, Move, MoveAt, NoncurrentMove};

/// The settings document of a bucket that holds its configuration.
pub const SETTING: &str = "lifecycle";
