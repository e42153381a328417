//! The reference model: what the contract means, in a map. Random sequences of calls must find the provider and the model in the
//! same state after each step.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::Subject;
use super::bodies::{body, bytes_of, content, etag_of};
use super::calls::{Call, End, ReadWhen, When, call};
use super::listing::{compare_page, reference};
use super::subject::{Line, key, upload_id};
use crate::{
    AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features, ListQuery,
    ObjectInfo, PartNumber, PutOptions, PutWhen, ReadOptions, Result,
};

/// How many cases of the model the suite runs: 64, or fewer where `PROPTEST_CASES` says so, because a store on a server takes its time.
#[must_use]
pub fn cases() -> u32 {
    Config::default().cases.min(64)
}

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
