//! What a configuration says, and when it lets something go.
//!
//! Ages are counted as S3 counts them: full days are added to a moment, and the sum is rounded up to the next midnight UTC
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>).

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::transitions::{Move, NoncurrentMove};

const DAY: u64 = 24 * 60 * 60;

/// The lifecycle configuration of a bucket, valid as S3 understands it: whoever builds one has checked it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// In the order in which they were put.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Unique in its configuration.
    pub id: String,
    /// A rule that is disabled is kept and does nothing.
    pub enabled: bool,
    /// Which objects and uploads it is about.
    pub filter: Filter,
    /// What happens to current versions.
    pub expiration: Option<Expiration>,
    /// What happens to versions that were replaced or deleted.
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Where current versions move.
    pub transitions: Vec<Move>,
    /// Where versions move that were replaced or deleted.
    pub noncurrent_transitions: Vec<NoncurrentMove>,
    /// Uploads that were begun so many days ago are aborted.
    pub abort_uploads_after_days: Option<u32>,
}

/// Which objects a rule is about: those that all of it fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// How it was written, so that it is shown as it was put.
    pub form: FilterForm,
    /// What the key begins with.
    pub prefix: Option<String>,
    /// Tags that the object has, among others.
    pub tags: Vec<(String, String)>,
    /// The size in bytes is larger than this.
    pub larger_than: Option<u64>,
    /// The size in bytes is smaller than this.
    pub smaller_than: Option<u64>,
}

/// The forms in which a document can name a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterForm {
    /// `<Filter>` with one condition or none.
    #[default]
    Single,
    /// `<Filter><And>`.
    And,
    /// `<Prefix>` right below the rule, as it was before there were filters.
    Prefix,
}

/// When current versions expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// So many days after they were made; at least 1.
    Days(u32),
    /// From this moment on, in seconds since 1970: a midnight UTC.
    Date(u64),
    /// Only delete markers beneath which no version is left.
    DeleteMarkers,
}

/// When noncurrent versions expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// So many days after they became noncurrent; at least 1.
    pub days: u32,
    /// How many noncurrent versions stay however old they are: the newest. 1 to 100.
    pub keep_newest: Option<u32>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The key in the bucket.
    pub key: &'a str,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub modified: SystemTime,
    /// Its tags; `None` where they are not known, which fits every rule that asks for some.
    pub tags: Option<&'a [(String, String)]>,
}

impl Configuration {
    /// Reads what [`to_json`](Self::to_json) wrote; what is not that is a configuration without rules, which does nothing.
    #[must_use]
    pub fn from_json(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// As the metadata store keeps it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// Whether deciding about current versions takes their tags.
    #[must_use]
    pub fn looks_at_tags(&self) -> bool {
        self.enabled().any(|rule| !rule.filter.tags.is_empty())
    }

    /// Whether any rule is about current versions.
    #[must_use]
    pub fn expires_objects(&self) -> bool {
        self.enabled().any(|rule| rule.expiration.is_some())
    }

    /// Whether any rule is about current or noncurrent versions or delete markers.
    #[must_use]
    pub fn looks_at_versions(&self) -> bool {
        let noncurrent = |rule: &Rule| rule.noncurrent.is_some() || !rule.noncurrent_transitions.is_empty();
        self.expires_objects() || self.moves_objects() || self.enabled().any(noncurrent)
    }

    /// Whether any rule is about uploads.
    #[must_use]
    pub fn aborts_uploads(&self) -> bool {
        self.enabled().any(|rule| rule.abort_uploads_after_days.is_some())
    }

    /// What every key begins with that any of the rules is about, uploads aside.
    #[must_use]
    pub fn common_prefix(&self) -> String {
        let mut prefixes = self.enabled().map(|rule| rule.filter.prefix.as_deref().unwrap_or(""));
        let Some(first) = prefixes.next() else { return String::new() };
        let shortest = prefixes.fold(first, |common, other| {
            let length =
                common.char_indices().zip(other.chars()).take_while(|((_, a), b)| a == b).map(|((at, c), _)| at + c.len_utf8());
            &common[..length.last().unwrap_or(0)]
        });
        shortest.to_owned()
    }

    /// When a current version that is no delete marker expires, and by which rule: the earliest counts.
    #[must_use]
    pub fn expiry(&self, subject: &Subject<'_>) -> Option<(SystemTime, &str)> {
        let expiries = self.enabled().filter(|rule| rule.filter.fits(subject)).filter_map(|rule| {
            let at = match rule.expiration? {
                Expiration::Days(days) => after(subject.modified, days),
                Expiration::Date(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                Expiration::DeleteMarkers => return None,
            };
            Some((at, rule.id.as_str()))
        });
        expiries.min_by_key(|(at, _)| *at)
    }

    /// When a delete marker beneath which no version is left goes, and by which rule. A marker has neither size nor tags: rules that
    /// ask for them are not about it.
    #[must_use]
    pub fn marker_expiry(&self, key: &str, made: SystemTime) -> Option<(SystemTime, &str)> {
        let about = |filter: &Filter| filter.fits_key(key) && !filter.asks_for_content();
        let expiries = self.enabled().filter(|rule| about(&rule.filter)).filter_map(|rule| {
            let at = match rule.expiration? {
                Expiration::DeleteMarkers => made,
                Expiration::Days(days) => after(made, days),
                Expiration::Date(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            };
            Some((at, rule.id.as_str()))
        });
        expiries.min_by_key(|(at, _)| *at)
    }

    /// When a noncurrent version goes, and by which rule. `newer` noncurrent versions of its key are younger than it is, and it was
    /// replaced or deleted at `since`.
    #[must_use]
    pub fn noncurrent_expiry(&self, subject: &Subject<'_>, since: SystemTime, newer: usize) -> Option<(SystemTime, &str)> {
        let expiries = self.enabled().filter(|rule| rule.filter.fits(subject)).filter_map(|rule| {
            let noncurrent = rule.noncurrent?;
            let kept = noncurrent.keep_newest.unwrap_or(0) as usize;
            (newer >= kept).then(|| (after(since, noncurrent.days), rule.id.as_str()))
        });
        expiries.min_by_key(|(at, _)| *at)
    }

    /// When an upload is aborted, and by which rule.
    #[must_use]
    pub fn upload_expiry(&self, key: &str, initiated: SystemTime) -> Option<(SystemTime, &str)> {
        let about = |filter: &Filter| filter.fits_key(key) && !filter.asks_for_content();
        let expiries = self
            .enabled()
            .filter(|rule| about(&rule.filter))
            .filter_map(|rule| Some((after(initiated, rule.abort_uploads_after_days?), rule.id.as_str())));
        expiries.min_by_key(|(at, _)| *at)
    }
}

impl Filter {
    fn fits_key(&self, key: &str) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
    }

    fn asks_for_content(&self) -> bool {
        !self.tags.is_empty() || self.larger_than.is_some() || self.smaller_than.is_some()
    }

    pub(super) fn fits(&self, subject: &Subject<'_>) -> bool {
        self.fits_key(subject.key)
            && self.larger_than.is_none_or(|size| subject.size > size)
            && self.smaller_than.is_none_or(|size| subject.size < size)
            && subject.tags.is_none_or(|tags| self.tags.iter().all(|tag| tags.contains(tag)))
    }
}

/// A moment and so many days, rounded up to midnight UTC.
pub(super) fn after(moment: SystemTime, days: u32) -> SystemTime {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A part of a second counts as a second: what was made just after midnight is a day behind it.
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let due = seconds.saturating_add(u64::from(days) * DAY).div_ceil(DAY).saturating_mul(DAY);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(due)).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn rule(id: &str, filter: Filter, expiration: Option<Expiration>) -> Rule {
        Rule { id: id.to_owned(), enabled: true, filter, expiration, ..Rule::default() }
    }

    fn prefixed(prefix: &str) -> Filter {
        Filter { prefix: Some(prefix.to_owned()), ..Filter::default() }
    }

    fn subject<'a>(key: &'a str, size: u64, modified: u64, tags: &'a [(String, String)]) -> Subject<'a> {
        Subject { key, size, modified: at(modified), tags: Some(tags) }
    }

    #[test]
    fn days_end_at_midnight() {
        // AWS's example: made on 15 January 2014 at 10:30, 3 days: 19 January at midnight.
        assert_eq!(after(at(1_389_781_800), 3), at(1_390_089_600));
        assert_eq!(after(at(10 * DAY), 1), at(11 * DAY));
        assert_eq!(after(at(10 * DAY) + Duration::from_millis(1), 1), at(12 * DAY));
        assert_eq!(after(at(0) - Duration::from_secs(5), 0), at(0));
    }

    #[test]
    fn the_earliest_rule_that_fits_counts() {
        let configuration = Configuration {
            rules: vec![
                rule("all", Filter::default(), Some(Expiration::Days(30))),
                rule("logs", prefixed("logs/"), Some(Expiration::Days(2))),
                Rule { enabled: false, ..rule("off", Filter::default(), Some(Expiration::Days(1))) },
                rule("date", prefixed("old/"), Some(Expiration::Date(5 * DAY))),
                rule("markers", Filter::default(), Some(Expiration::DeleteMarkers)),
            ],
        };
        assert_eq!(configuration.expiry(&subject("logs/a", 1, 1, &[])), Some((at(3 * DAY), "logs")));
        assert_eq!(configuration.expiry(&subject("a", 1, 1, &[])), Some((at(31 * DAY), "all")));
        assert_eq!(configuration.expiry(&subject("old/a", 1, 1, &[])), Some((at(5 * DAY), "date")));
        assert_eq!(configuration.marker_expiry("a", at(7)), Some((at(7), "markers")));
    }

    #[test]
    fn all_of_a_filter_must_fit() {
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let filter = Filter {
            form: FilterForm::And,
            prefix: Some("a/".to_owned()),
            tags: vec![tag("x", "1"), tag("y", "2")],
            larger_than: Some(10),
            smaller_than: Some(20),
        };
        let configuration = Configuration {
            rules: vec![Rule { abort_uploads_after_days: Some(1), ..rule("r", filter, Some(Expiration::Days(1))) }],
        };
        let both = [tag("y", "2"), tag("z", "3"), tag("x", "1")];
        assert!(configuration.expiry(&subject("a/k", 11, 1, &both)).is_some());
        for (key, size, tags) in
            [("b/k", 11, &both[..]), ("a/k", 10, &both), ("a/k", 20, &both), ("a/k", 11, &both[..2]), ("a/k", 11, &[])]
        {
            assert_eq!(configuration.expiry(&subject(key, size, 1, tags)), None, "{key} {size} {tags:?}");
        }
        // Neither uploads nor markers have what it asks for.
        assert_eq!(configuration.upload_expiry("a/k", at(1)), None);
        assert_eq!(configuration.marker_expiry("a/k", at(1)), None);
    }

    #[test]
    fn noncurrent_versions_go_by_age_and_number() {
        let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newest: Some(2) });
        let configuration = Configuration { rules: vec![Rule { noncurrent, ..rule("n", Filter::default(), None) }] };
        let version = subject("k", 1, 1, &[]);
        assert_eq!(configuration.noncurrent_expiry(&version, at(5), 1), None);
        assert_eq!(configuration.noncurrent_expiry(&version, at(5), 2), Some((at(2 * DAY), "n")));
        assert_eq!(configuration.expiry(&version), None);
    }

    #[test]
    fn uploads_go_after_days_from_their_beginning() {
        let abort = |prefix: &str, days| Rule { abort_uploads_after_days: Some(days), ..rule(prefix, prefixed(prefix), None) };
        let configuration = Configuration { rules: vec![abort("", 7), abort("tmp/", 1)] };
        assert_eq!(configuration.upload_expiry("tmp/x", at(1)), Some((at(2 * DAY), "tmp/")));
        assert_eq!(configuration.upload_expiry("x", at(1)), Some((at(8 * DAY), "")));
    }

    #[test]
    fn only_what_rules_have_in_common_is_listed() {
        let of = |prefixes: &[&str]| {
            let rules = prefixes.iter().map(|p| rule(p, prefixed(p), Some(Expiration::Days(1)))).collect();
            Configuration { rules }.common_prefix()
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["logs/a", "logs/b", "logs/"]), "logs/");
        assert_eq!(of(&["é1", "é2"]), "é");
        assert_eq!(of(&["é", "è"]), "");
        assert_eq!(of(&["a", ""]), "");
    }

    #[test]
    fn it_is_kept_as_it_is() {
        let configuration = Configuration { rules: vec![rule("r", prefixed("p"), Some(Expiration::DeleteMarkers))] };
        assert_eq!(Configuration::from_json(&configuration.to_json()), configuration);
        assert_eq!(Configuration::from_json("[1"), Configuration::default());
    }
}
