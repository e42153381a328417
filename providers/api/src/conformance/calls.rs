//! The calls of the model, and how they are drawn.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{ListFrom, ListQuery, RangeSpec};

/// A call, in terms of what is there when its turn comes.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Put { key: String, seed: u64, len: usize, when: When, attributes: Vec<(String, String)> },
    Get { key: String, range: Option<RangeSpec>, when: ReadWhen },
    Head { key: String, when: ReadWhen },
    Delete { keys: Vec<(String, When)> },
    Copy { from: String, to: String, source: ReadWhen, when: When, attributes: Option<Vec<(String, String)>> },
    SetAttributes { key: String, when: ReadWhen, set: Vec<(String, Option<String>)> },
    List(ListQuery),
    Upload { key: String, parts: Vec<(u64, usize)>, end: End, when: When },
}

impl Call {
    /// The keys that it may change.
    pub(super) fn writes_to(&self) -> Vec<&str> {
        match self {
            Self::Get { .. } | Self::Head { .. } | Self::List(_) => Vec::new(),
            Self::Put { key, .. } | Self::SetAttributes { key, .. } | Self::Upload { key, .. } => vec![key],
            Self::Copy { from, to, .. } => vec![from, to],
            Self::Delete { keys } => keys.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }
}

/// How an upload ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Complete,
    Reversed,
    Abort,
    LeftOpen,
}

/// A condition on what is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    Absent,
    Present,
    Current,
    Other,
}

/// A condition of a read.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadWhen {
    Always,
    Current,
    Other,
}

// === what is drawn ===

/// Keys from few segments, so that they meet each other often.
fn name() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "a-b", "", ".", "..", "A", "é", "e\u{301}", "%2F", "0", "\u{1}", "LONG"]);
    let segment = segment.prop_map(|s| if s == "LONG" { "l".repeat(256) } else { s.to_owned() });
    prop_oneof![
        6 => select(vec!["a", "a/", "a/b", "a//b", "a-b", "a/b/c", "b"]).prop_map(String::from),
        4 => vec(segment, 1..4).prop_map(|segments| segments.join("/")),
    ]
    .prop_map(|name| if name.is_empty() { "/".to_owned() } else { name })
}

/// The beginning of a key, cut anywhere.
fn prefix() -> impl Strategy<Value = String> {
    (name(), any::<Index>()).prop_map(|(name, cut)| {
        let cuts: Vec<_> = name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
        name[..cuts[cut.index(cuts.len())]].to_owned()
    })
}

fn query() -> impl Strategy<Value = ListQuery> {
    let delimiter = select(vec![None, Some("/"), Some("/"), Some("-"), Some("//"), Some("b"), Some("/b"), Some("é")]);
    let from = prop_oneof![
        Just(ListFrom::Start),
        name().prop_map(ListFrom::After),
        prefix().prop_map(ListFrom::After),
        prefix().prop_map(ListFrom::AfterPrefix),
    ];
    (prop_oneof![Just(String::new()), prefix()], delimiter, from, 1..7_usize)
        .prop_map(|(prefix, delimiter, from, limit)| ListQuery { prefix, delimiter: delimiter.map(String::from), from, limit })
}

fn range() -> impl Strategy<Value = RangeSpec> {
    let offset = 0..40_u64;
    prop_oneof![
        (offset.clone(), offset.clone()).prop_map(|(a, b)| RangeSpec::Between(a.min(b), a.max(b))),
        offset.clone().prop_map(RangeSpec::From),
        offset.prop_map(RangeSpec::Last),
    ]
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![4 => Just(When::Always), 1 => Just(When::Absent), 1 => Just(When::Present), 1 => Just(When::Current), 1 => Just(When::Other)]
}

fn read_when() -> impl Strategy<Value = ReadWhen> {
    prop_oneof![3 => Just(ReadWhen::Always), 1 => Just(ReadWhen::Current), 1 => Just(ReadWhen::Other)]
}

fn attribute_name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "content-type"]).prop_map(String::from)
}

fn attribute_value() -> impl Strategy<Value = String> {
    prop_oneof![select(vec!["", "1", "zwölf\n"]).prop_map(String::from), Just("v".repeat(5000))]
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((attribute_name(), attribute_value()), 0..3)
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..40_usize, 1 => 4000..9000_usize]
}

/// Any call.
pub(super) fn call() -> impl Strategy<Value = Call> {
    let seed = 0..8_u64;
    let end = select(vec![End::Complete, End::Complete, End::Reversed, End::Abort, End::LeftOpen]);
    prop_oneof![
        6 => (name(), seed.clone(), length(), when(), pairs())
            .prop_map(|(key, seed, len, when, attributes)| Call::Put { key, seed, len, when, attributes }),
        2 => (name(), prop::option::of(range()), read_when()).prop_map(|(key, range, when)| Call::Get { key, range, when }),
        1 => (name(), read_when()).prop_map(|(key, when)| Call::Head { key, when }),
        3 => btree_map(name(), when(), 0..4).prop_map(|keys| Call::Delete { keys: keys.into_iter().collect() }),
        2 => (name(), name(), read_when(), when(), prop::option::of(pairs()))
            .prop_map(|(from, to, source, when, attributes)| Call::Copy { from, to, source, when, attributes }),
        2 => (name(), read_when(), vec((attribute_name(), prop::option::of(attribute_value())), 0..3))
            .prop_map(|(key, when, set)| Call::SetAttributes { key, when, set }),
        3 => query().prop_map(Call::List),
        1 => (name(), vec((seed, length()), 1..4), end, when())
            .prop_map(|(key, parts, end, when)| Call::Upload { key, parts, end, when }),
    ]
}
