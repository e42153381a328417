//! The reference model: what the contract means, in a map. Random sequences of calls must find the provider and the model in the
//! same state after each step.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::Subject;
use super::bodies::{body, bytes_of, content, etag_of};
use super::listing::{compare_page, reference};
use super::subject::{Line, key, upload_id};
use crate::{
    AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features, ListFrom,
    ListQuery, ObjectInfo, PartNumber, PutOptions, PutWhen, RangeSpec, ReadOptions, Result,
};

/// How many cases of the model the suite runs.
pub const CASES: u32 = 64;

/// Runs `cases` random sequences of calls against a fresh store each, and against the model. Panics with the shortest sequence
/// that it can find after which they differ. Brings a runtime of its own: to be called from a plain `#[test]`.
pub fn model<F, Fut>(fresh: F, cases: u32)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(call(), 1..40), |calls| {
        runtime.block_on(async {
            let subject = fresh().await;
            if !subject.writable() {
                return Ok(());
            }
            let mut model = Model::new(&subject);
            for call in &calls {
                model.step(&subject, call).await.map_err(TestCaseError::fail)?;
            }
            Ok(())
        })
    });
    if let Err(difference) = outcome {
        panic!("provider and model differ: {difference}");
    }
}

/// A call, in terms of what is there when its turn comes.
#[derive(Clone, Debug)]
enum Call {
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
    fn writes_to(&self) -> Vec<&str> {
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
enum End {
    Complete,
    Reversed,
    Abort,
    LeftOpen,
}

/// A condition on what is there.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Absent,
    Present,
    Current,
    Other,
}

/// A condition of a read.
#[derive(Clone, Copy, Debug)]
enum ReadWhen {
    Always,
    Current,
    Other,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    content: Bytes,
    etag: ETag,
    attributes: Attributes,
}

struct Model {
    features: Features,
    objects: BTreeMap<String, Entry>,
    uploads: usize,
}

impl Model {
    fn new(subject: &Subject) -> Self {
        Self { features: subject.features(), objects: BTreeMap::new(), uploads: 0 }
    }

    /// Makes the call to both and compares answers, then all that can be seen.
    async fn step(&mut self, subject: &Subject, call: &Call) -> Result<(), String> {
        let p = subject.provider();
        match call {
            Call::Put { key: name, seed, len, when, attributes } => {
                let content = content(*seed, *len);
                let put = PutOptions { when: self.put_when(name, *when), attributes: self.attributes(attributes) };
                let entry = Entry { etag: etag_of(&content), content: content.clone(), attributes: put.attributes.clone() };
                let expected = self.publish(name, entry, &put.when);
                same_object(p.put(&key(name), body(&content), &put).await, expected, call)?;
            }
            Call::Get { key: name, range, when } => {
                let read = ReadOptions { range: *range, if_match: self.etag(name, *when) };
                let expected = self.read(name, &read).and_then(|entry| {
                    let size = entry.content.len() as u64;
                    Ok((entry, range.map_or(Ok(0..size), |r| r.resolve(size))?))
                });
                match (p.get(&key(name), &read).await, expected) {
                    (Ok(object), Ok((entry, range))) => {
                        same_object(Ok(object.info.clone()), Ok((name.clone(), entry.clone())), call)?;
                        equal(&object.range, &range, call)?;
                        let bytes = bytes_of(object).await;
                        equal(&bytes, &entry.content.slice(range.start as usize..range.end as usize), call)?;
                    }
                    (is, due) => same_kind(is.map(drop), due.map(drop), call)?,
                }
            }
            Call::Head { key: name, when } => {
                let read = ReadOptions { range: None, if_match: self.etag(name, *when) };
                let expected = self.read(name, &read).map(|entry| (name.clone(), entry));
                same_object(p.head(&key(name), &read).await, expected, call)?;
            }
            Call::Delete { keys } => self.delete(subject, keys, call).await?,
            Call::Copy { from, to, source, when, attributes } => {
                let copy = CopyOptions {
                    source_if_match: self.etag(from, *source),
                    when: self.put_when(to, *when),
                    attributes: attributes.as_ref().map(|a| self.attributes(a)),
                };
                let read = ReadOptions { range: None, if_match: copy.source_if_match.clone() };
                let is = p.copy(&key(from), &key(to), &copy).await;
                let due = self.read(from, &read).and_then(|mut entry| {
                    entry.attributes = copy.attributes.clone().unwrap_or(entry.attributes);
                    self.publish(to, entry, &copy.when)
                });
                match (is, due) {
                    // Both ends refuse: which of them is looked at first is nobody's business.
                    (Err(is), Err(_)) if refusal(is.kind()) => {}
                    (is, due) => same_object(is, due, call)?,
                }
            }
            Call::SetAttributes { key: name, when, set } if self.features.attributes => {
                let change = AttributeChange { if_match: self.etag(name, *when), set: set.clone() };
                let read = ReadOptions { range: None, if_match: change.if_match.clone() };
                let expected = self.read(name, &read).map(|mut entry| {
                    entry.attributes.apply(&change);
                    self.objects.insert(name.clone(), entry.clone());
                    (name.clone(), entry)
                });
                same_object(p.set_attributes(&key(name), &change).await, expected, call)?;
            }
            Call::SetAttributes { .. } => {}
            Call::List(query) => self.compare_page(subject, query).await?,
            Call::Upload { key, parts, end, when } => self.upload(subject, key, parts, *end, *when, call).await?,
        }
        for name in call.writes_to() {
            self.compare_object(subject, name).await?;
        }
        let all = ListQuery { limit: 1000, ..ListQuery::default() };
        self.compare_page(subject, &all).await?;
        self.compare_page(subject, &ListQuery { delimiter: Some("/".into()), ..all }).await
    }

    async fn delete(&mut self, subject: &Subject, keys: &[(String, When)], call: &Call) -> Result<(), String> {
        let keys: Vec<_> = keys.iter().map(|(name, when)| (name, self.delete_when(name, *when))).collect();
        let request: Vec<_> = keys.iter().map(|(name, when)| DeleteKey { key: key(name), when: when.clone() }).collect();
        let outcomes = subject.provider().delete(&request).await;
        equal(&outcomes.len(), &keys.len(), call)?;
        for ((name, when), outcome) in keys.into_iter().zip(outcomes) {
            let current = self.objects.get(name);
            let holds = match &when {
                DeleteWhen::Always => true,
                DeleteWhen::IfMatch { etag, size, .. } => current.is_some_and(|entry| {
                    etag.as_ref().is_none_or(|e| *e == entry.etag) && size.is_none_or(|s| s == entry.content.len() as u64)
                }),
            };
            match (outcome, holds) {
                (Ok(outcome), true) => {
                    let size = current.map(|entry| entry.content.len() as u64);
                    equal(&outcome, &size.map_or(DeleteOutcome::Absent, |size| DeleteOutcome::Deleted { size }), call)?;
                    self.objects.remove(name);
                }
                (Err(e), false) if refusal(e.kind()) => {}
                (outcome, _) => return Err(format!("{call:?}: {outcome:?} of {name:?}, which is {current:?}")),
            }
        }
        Ok(())
    }

    async fn upload(
        &mut self,
        subject: &Subject,
        name: &str,
        parts: &[(u64, usize)],
        end: End,
        when: When,
        call: &Call,
    ) -> Result<(), String> {
        let Some(multipart) = subject.multipart() else { return Ok(()) };
        self.uploads += 1;
        let (key, id) = (key(name), upload_id(&format!("model-{}", self.uploads)));
        let failed = |e: Error| format!("{call:?}: {e}");
        multipart.create(&key, &id).await.map_err(failed)?;
        let mut stored = Vec::new();
        for (number, (seed, len)) in (1..).zip(parts) {
            let content = content(*seed, *len);
            let number = PartNumber::new(number).expect("few parts");
            let token = multipart.put_part(&key, &id, number, body(&content)).await.map_err(failed)?;
            stored.push((token, content));
        }
        match end {
            End::LeftOpen => return Ok(()),
            End::Abort => return multipart.abort(&key, &id).await.map_err(failed),
            End::Complete => {}
            End::Reversed => stored.reverse(),
        }
        let whole: Vec<u8> = stored.iter().flat_map(|(_, content)| content.iter().copied()).collect();
        let listed: Vec<_> = stored.into_iter().map(|(token, content)| (token, content.len() as u64)).collect();
        let etag = ETag::new(format!("{}-{}", etag_of(&whole), parts.len())).expect("a sound ETag");
        let put = PutOptions { when: self.put_when(name, when), attributes: Attributes::new() };
        let entry = Entry { content: whole.into(), etag: etag.clone(), attributes: Attributes::new() };
        let due = self.publish(name, entry, &put.when);
        same_object(multipart.complete(&key, &id, &listed, &etag, &put).await, due, call)
    }

    async fn compare_object(&self, subject: &Subject, name: &str) -> Result<(), String> {
        let whole = ReadOptions::default();
        let due = self.read(name, &whole).map(|entry| (entry.content, entry.etag, entry.attributes));
        let is = match subject.provider().get(&key(name), &whole).await {
            Ok(object) => {
                let info = object.info.clone();
                Ok((bytes_of(object).await, info.etag, info.attributes))
            }
            Err(e) => Err(e),
        };
        equal(&is.map_err(|e| *e.kind()), &due.map_err(|e| *e.kind()), &name)
    }

    async fn compare_page(&self, subject: &Subject, query: &ListQuery) -> Result<(), String> {
        let page = subject.provider().list(query).await.map_err(|e| format!("{query:?}: {e}"))?;
        let lines: Vec<_> = page.entries.iter().map(Line::from).collect();
        compare_page(&lines, page.more, &reference(self.objects.keys().map(String::as_str), query), query)?;
        for entry in page.entries {
            if let crate::ListEntry::Object(info) = entry {
                let due = self.objects.get(info.key.as_str()).map(|entry| (entry.content.len() as u64, &entry.etag));
                equal(&Some((info.size, &info.etag)), &due, query)?;
            }
        }
        Ok(())
    }

    fn read(&self, name: &str, read: &ReadOptions) -> Result<Entry> {
        let entry = self.objects.get(name).ok_or_else(|| Error::new(ErrorKind::NotFound, "model"))?;
        match &read.if_match {
            Some(etag) if *etag != entry.etag => Err(Error::new(ErrorKind::PreconditionFailed, "model")),
            _ => Ok(entry.clone()),
        }
    }

    fn publish(&mut self, name: &str, entry: Entry, when: &PutWhen) -> Result<(String, Entry)> {
        when.check(self.objects.get(name).map(|current| &current.etag))?;
        self.objects.insert(name.to_owned(), entry.clone());
        Ok((name.to_owned(), entry))
    }

    fn attributes(&self, pairs: &[(String, String)]) -> Attributes {
        if self.features.attributes { pairs.iter().cloned().collect() } else { Attributes::new() }
    }

    fn etag(&self, name: &str, when: ReadWhen) -> Option<ETag> {
        match when {
            ReadWhen::Always => None,
            ReadWhen::Current => Some(self.objects.get(name).map_or_else(other_etag, |entry| entry.etag.clone())),
            ReadWhen::Other => Some(other_etag()),
        }
    }

    fn put_when(&self, name: &str, when: When) -> PutWhen {
        match when {
            _ if !self.features.conditions => PutWhen::Always,
            When::Always => PutWhen::Always,
            When::Absent => PutWhen::IfAbsent,
            When::Present => PutWhen::IfPresent,
            When::Current => PutWhen::IfMatch(self.etag(name, ReadWhen::Current).unwrap_or_else(other_etag)),
            When::Other => PutWhen::IfMatch(other_etag()),
        }
    }

    fn delete_when(&self, name: &str, when: When) -> DeleteWhen {
        let current = self.objects.get(name);
        match when {
            _ if !self.features.conditions => DeleteWhen::Always,
            When::Always => DeleteWhen::Always,
            When::Present => DeleteWhen::IfMatch { etag: None, modified: None, size: None },
            When::Absent => DeleteWhen::IfMatch { etag: None, modified: None, size: current.map(|e| e.content.len() as u64) },
            When::Current => DeleteWhen::IfMatch { etag: self.etag(name, ReadWhen::Current), modified: None, size: None },
            When::Other => DeleteWhen::IfMatch { etag: Some(other_etag()), modified: None, size: None },
        }
    }
}

fn other_etag() -> ETag {
    etag_of(b"an ETag that no content of the model has")
}

fn refusal(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::PreconditionFailed | ErrorKind::NotFound)
}

fn equal<T: PartialEq + fmt::Debug>(is: &T, due: &T, call: &dyn fmt::Debug) -> Result<(), String> {
    if is == due { Ok(()) } else { Err(format!("{call:?}: is {is:?}, not {due:?}")) }
}

fn same_kind(is: Result<()>, due: Result<()>, call: &Call) -> Result<(), String> {
    equal(&is.map_err(|e| *e.kind()), &due.map_err(|e| *e.kind()), call)
}

fn same_object(is: Result<ObjectInfo>, due: Result<(String, Entry)>, call: &Call) -> Result<(), String> {
    match (is, due) {
        (Ok(info), Ok((name, entry))) => {
            equal(&info.key.as_str(), &name.as_str(), call)?;
            equal(&info.size, &(entry.content.len() as u64), call)?;
            equal(&info.etag, &entry.etag, call)?;
            equal(&info.attributes, &entry.attributes, call)
        }
        (is, due) => same_kind(is.map(drop), due.map(drop), call),
    }
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
    (name(), any::<prop::sample::Index>()).prop_map(|(name, cut)| {
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

fn call() -> impl Strategy<Value = Call> {
    let seed = 0..8_u64;
    let end = select(vec![End::Complete, End::Complete, End::Reversed, End::Abort, End::LeftOpen]);
    prop_oneof![
        6 => (name(), seed.clone(), length(), when(), pairs())
            .prop_map(|(key, seed, len, when, attributes)| Call::Put { key, seed, len, when, attributes }),
        2 => (name(), prop::option::of(range()), read_when()).prop_map(|(key, range, when)| Call::Get { key, range, when }),
        1 => (name(), read_when()).prop_map(|(key, when)| Call::Head { key, when }),
        3 => prop::collection::btree_map(name(), when(), 0..4).prop_map(|keys| Call::Delete { keys: keys.into_iter().collect() }),
        2 => (name(), name(), read_when(), when(), prop::option::of(pairs()))
            .prop_map(|(from, to, source, when, attributes)| Call::Copy { from, to, source, when, attributes }),
        2 => (name(), read_when(), vec((attribute_name(), prop::option::of(attribute_value())), 0..3))
            .prop_map(|(key, when, set)| Call::SetAttributes { key, when, set }),
        3 => query().prop_map(Call::List),
        1 => (name(), vec((seed, length()), 1..4), end, when())
            .prop_map(|(key, parts, end, when)| Call::Upload { key, parts, end, when }),
    ]
}
