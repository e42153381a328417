//! `[limits]`

use serde::{Deserialize, Serialize};

use super::rates::overrides;

/// How often somebody may ask. Over it, the answer is 503 SlowDown at once, and SDKs try again later. Off by default. Changes are taken
/// over while the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether the rates below hold.
    pub enabled: bool,
    /// Requests a second of one access key (of one address, where requests are not signed). A second's worth may come at once.
    pub user_per_sec: u32,
    /// Requests a second to one bucket. A second's worth may come at once.
    pub bucket_per_sec: u32,
    /// Rates of single access keys, `ACCESS_KEY=RATE`; 0 is no limit.
    pub users: Vec<String>,
    /// Rates of single buckets, `BUCKET=RATE`; 0 is no limit.
    pub buckets: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: false, user_per_sec: 100, bucket_per_sec: 1000, users: Vec::new(), buckets: Vec::new() }
    }
}

impl Settings {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// The key, and why not.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (key, rate) in [("user_per_sec", self.user_per_sec), ("bucket_per_sec", self.bucket_per_sec)] {
            if rate == 0 {
                return Err((key, "must be at least 1".to_owned()));
            }
        }
        overrides(&self.users).map_err(|why| ("users", why))?;
        overrides(&self.buckets).map_err(|why| ("buckets", why)).map(drop)
    }
}
