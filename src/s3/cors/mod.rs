//! Cross-origin resource sharing (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html>): which pages of other origins a
//! browser lets read a bucket. It protects nothing from anybody but browsers: who may do what is decided elsewhere.
//!
//! - `rules` is the configuration of a bucket and which rule of it a request meets.
//! - `answer` is what a preflight gets, and what is added to every other answer. A request without `Origin` costs one look at its
//!   headers.

mod answer;
mod rules;

pub(crate) use answer::{Asking, preflight};
pub(crate) use rules::Configuration;

/// The settings document of a bucket that holds its configuration.
pub(crate) const SETTING: &str = "cors";
