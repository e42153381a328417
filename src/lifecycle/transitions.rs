//! When something moves to a cheaper storage class.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::rules::{Configuration, Filter, Subject, after};
use crate::mounts::rank;

/// What is smaller moves only by rules that ask for sizes themselves, in bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html>).
const SMALLEST: u64 = 128 * 1024;

/// When current versions move, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// When.
    pub at: MoveAt,
    /// The storage class.
    pub class: String,
}

/// When a current version moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveAt {
    /// So many days after it was made; 0 is the next midnight UTC.
    Days(u32),
    /// From this moment on, in seconds since 1970: a midnight UTC.
    Date(u64),
}

/// When noncurrent versions move, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentMove {
    /// So many days after they became noncurrent.
    pub days: u32,
    /// How many noncurrent versions stay where they are, however old they are: the newest. 1 to 100.
    pub keep_newest: Option<u32>,
    /// The storage class.
    pub class: String,
}

/// A move that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMove<'a> {
    /// Since when.
    pub at: SystemTime,
    /// By which rule.
    pub rule: &'a str,
    /// Where to.
    pub class: &'a str,
}

impl Configuration {
    /// Whether any rule moves current versions.
    #[must_use]
    pub fn moves_objects(&self) -> bool {
        self.enabled().any(|rule| !rule.transitions.is_empty())
    }

    /// Where a current version that lies in `class` (`None` is STANDARD) has to move: of all classes that are due by `now` and `kept`, the
    /// cheapest. What is in it, or in a cheaper one, stays.
    #[must_use]
    pub fn due_move(
        &self,
        subject: &Subject<'_>,
        class: Option<&str>,
        now: SystemTime,
        kept: impl Fn(&str) -> bool,
    ) -> Option<DueMove<'_>> {
        let fitting = self.enabled().filter(|rule| rule.filter.fits(subject) && moves_size(&rule.filter, subject.size));
        let moves = fitting.flat_map(|rule| rule.transitions.iter().map(move |to| (rule, to))).map(|(rule, to)| {
            let at = match to.at {
                MoveAt::Days(days) => after(subject.modified, days),
                MoveAt::Date(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            };
            DueMove { at, rule: &rule.id, class: &to.class }
        });
        cheapest(moves, class, now, kept)
    }

    /// The same for a noncurrent version. `newer` and `since` as for [`Self::noncurrent_expiry`].
    #[must_use]
    pub fn due_noncurrent_move(
        &self,
        subject: &Subject<'_>,
        (since, newer): (SystemTime, usize),
        class: Option<&str>,
        now: SystemTime,
        kept: impl Fn(&str) -> bool,
    ) -> Option<DueMove<'_>> {
        let fitting = self.enabled().filter(|rule| rule.filter.fits(subject) && moves_size(&rule.filter, subject.size));
        let moves = fitting
            .flat_map(|rule| rule.noncurrent_transitions.iter().map(move |to| (rule, to)))
            .filter(|(_, to)| newer >= to.keep_newest.unwrap_or(0) as usize)
            .map(|(rule, to)| DueMove { at: after(since, to.days), rule: &rule.id, class: &to.class });
        cheapest(moves, class, now, kept)
    }
}

fn cheapest<'a>(
    moves: impl Iterator<Item = DueMove<'a>>,
    class: Option<&str>,
    now: SystemTime,
    kept: impl Fn(&str) -> bool,
) -> Option<DueMove<'a>> {
    let there = rank(class);
    let due = moves.filter(|to| to.at <= now && rank(Some(to.class)) > there && kept(to.class));
    // Of several that say the same, the one that said it first.
    due.min_by_key(|to| (usize::MAX - rank(Some(to.class)), to.at))
}

/// Whether what has this size is worth moving.
fn moves_size(filter: &Filter, size: u64) -> bool {
    let asks = filter.larger_than.is_some() || filter.smaller_than.is_some();
    size >= if asks { 1 } else { SMALLEST }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::lifecycle::Rule;

    const DAY: u64 = 24 * 60 * 60;

    fn at(day: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY)
    }

    fn days(days: u32, class: &str) -> Move {
        Move { at: MoveAt::Days(days), class: class.to_owned() }
    }

    fn rule(id: &str, filter: Filter, transitions: Vec<Move>) -> Rule {
        Rule { id: id.to_owned(), enabled: true, filter, transitions, ..Rule::default() }
    }

    fn subject(size: u64) -> Subject<'static> {
        Subject { key: "k", size, modified: at(100), tags: Some(&[]) }
    }

    #[test]
    fn the_cheapest_class_that_is_due_and_kept_is_taken() {
        let rules = vec![
            rule("a", Filter::default(), vec![days(30, "STANDARD_IA"), days(90, "GLACIER")]),
            rule("b", Filter::default(), vec![days(60, "GLACIER_IR")]),
        ];
        let configuration = Configuration { rules };
        let class = |day, class, kept: &[&str]| {
            let to = configuration.due_move(&subject(1 << 20), class, at(day), |class| kept.contains(&class))?;
            Some((to.rule, to.class))
        };
        let all = ["STANDARD_IA", "GLACIER_IR", "GLACIER"];
        assert_eq!(class(129, None, &all), None);
        assert_eq!(class(130, None, &all), Some(("a", "STANDARD_IA")));
        assert_eq!(class(160, None, &all), Some(("b", "GLACIER_IR")));
        assert_eq!(class(160, Some("STANDARD_IA"), &all), Some(("b", "GLACIER_IR")));
        assert_eq!(class(160, Some("GLACIER_IR"), &all), None);
        assert_eq!(class(190, Some("REDUCED_REDUNDANCY"), &all), Some(("a", "GLACIER")));
        assert_eq!(class(190, None, &["STANDARD_IA"]), Some(("a", "STANDARD_IA")));
        assert_eq!(class(999, Some("DEEP_ARCHIVE"), &all), None);
        assert_eq!(class(999, None, &[]), None);
    }

    #[test]
    fn small_objects_move_only_where_a_rule_asks_for_sizes() {
        let sized = Filter { larger_than: Some(0), ..Filter::default() };
        for (filter, size, moves) in [
            (Filter::default(), 128 * 1024 - 1, false),
            (Filter::default(), 128 * 1024, true),
            (sized.clone(), 1, true),
            (sized, 0, false),
            (Filter { smaller_than: Some(10), ..Filter::default() }, 0, false),
        ] {
            let configuration = Configuration { rules: vec![rule("a", filter, vec![days(0, "GLACIER")])] };
            assert_eq!(configuration.due_move(&subject(size), None, at(101), |_| true).is_some(), moves, "{size}");
        }
    }

    #[test]
    fn newer_noncurrent_versions_can_stay() {
        let to = NoncurrentMove { days: 1, keep_newest: Some(2), class: "GLACIER".to_owned() };
        let rule = Rule { noncurrent_transitions: vec![to], ..rule("a", Filter::default(), Vec::new()) };
        let configuration = Configuration { rules: vec![rule] };
        let due = |newer, day| {
            configuration.due_noncurrent_move(&subject(1 << 20), (at(100), newer), None, at(day), |_| true).is_some()
        };
        assert!(!due(1, 200) && due(2, 101) && !due(2, 100));
        assert!(!configuration.moves_objects());
    }

    #[test]
    fn a_configuration_of_before_is_read() {
        let old = r#"{"rules":[{"id":"a","enabled":true,"filter":{"form":"Single"},"expiration":{"Days":1}}]}"#;
        assert_eq!(Configuration::from_json(old).rules.len(), 1);
    }
}
