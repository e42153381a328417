//! How often somebody may ask: rates per user and per bucket.
//!
//! It promises that whoever is over their rate is told so at once instead of being queued, that one key cannot use up the share of
//! another, and that what it remembers of senders and buckets is forgotten when they are quiet. The user's rate is looked at before the
//! bucket's, so that a user who is refused does not take from what the bucket's other users have. Off, it costs one load.

mod rates;
mod settings;

pub use rates::{Exceeded, Rates, Sender};
pub use settings::Settings;
