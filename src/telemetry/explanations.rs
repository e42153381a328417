//! Why requests were refused lately: what `sluice explain REQUEST-ID` tells.
//!
//! In memory, of this process, the last [`MOST`] of them; the log has them for longer. What comes here is for people who run the gateway:
//! it holds no secret, no signature and no session token.

use std::collections::VecDeque;
use std::sync::LazyLock;

use parking_lot::Mutex;

/// How many are kept.
const MOST: usize = 1000;
/// The longest value in bytes, and the most values of one.
const MAX_VALUE: usize = 1024;
const MAX_VALUES: usize = 24;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The request's id.
    pub request_id: String,
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// The error code that was answered.
    pub code: &'static str,
    /// Names and values, in the order to read them.
    pub facts: Vec<(&'static str, String)>,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct Explanations(Mutex<VecDeque<Explanation>>);

impl Explanations {
    /// Those of this process.
    #[must_use]
    pub fn here() -> &'static Self {
        static HERE: LazyLock<Explanations> = LazyLock::new(Explanations::default);
        &HERE
    }

    /// Adds one; the oldest goes when there are too many.
    pub fn add(&self, mut explanation: Explanation) {
        explanation.facts.truncate(MAX_VALUES);
        for (_, value) in &mut explanation.facts {
            if value.len() > MAX_VALUE {
                let end = (0..=MAX_VALUE).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
                value.truncate(end);
                value.push('…');
            }
        }
        let mut kept = self.0.lock();
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(explanation);
    }

    /// That of a request.
    #[must_use]
    pub fn of(&self, request_id: &str) -> Option<Explanation> {
        self.0.lock().iter().rev().find(|kept| kept.request_id.eq_ignore_ascii_case(request_id)).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_last_are_kept_and_none_is_large() {
        let kept = Explanations::default();
        for n in 0..=MOST {
            let facts = vec![("host", "ü".repeat(2000)); 100];
            kept.add(Explanation { request_id: format!("R{n}"), at: 0, code: "SignatureDoesNotMatch", facts });
        }
        assert!(kept.of("R0").is_none());
        let one = kept.of("r1").unwrap();
        assert_eq!(one.facts.len(), MAX_VALUES);
        assert!(one.facts[0].1.len() <= MAX_VALUE + 4);
    }
}
