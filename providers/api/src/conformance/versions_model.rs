//! The reference model of versions: what the facet means, in a list for each key.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::Subject;
use super::bodies::{body, bytes_of, content};
use super::subject::key;
use super::versions::{Told, walk};
use crate::{CopyOptions, DeleteWhen, Guard, PutOptions, ReadOptions, VersionId, Versioning, Versions, is_marker, version_of};

#[derive(Clone, Debug)]
enum Call {
    Put { key: &'static str, seed: u64, versioning: Versioning },
    Plain { key: &'static str, seed: u64 },
    Mark { key: &'static str, versioning: Versioning },
    Remove { key: &'static str, at: Index },
    Restore { key: &'static str, at: Index, versioning: Versioning },
}

#[derive(Clone, Debug)]
struct Entry {
    id: VersionId,
    /// `None` for a marker.
    content: Option<Bytes>,
}

fn call() -> impl Strategy<Value = Call> {
    let name = || select(vec!["a", "a/", "a/b", "a-b", "b"]);
    let versioning = || select(vec![Versioning::Enabled, Versioning::Enabled, Versioning::Suspended]);
    prop_oneof![
        4 => (name(), 0..50_u64, versioning()).prop_map(|(key, seed, versioning)| Call::Put { key, seed, versioning }),
        2 => (name(), versioning()).prop_map(|(key, versioning)| Call::Mark { key, versioning }),
        3 => (name(), any::<Index>()).prop_map(|(key, at)| Call::Remove { key, at }),
        1 => (name(), any::<Index>(), versioning()).prop_map(|(key, at, versioning)| Call::Restore { key, at, versioning }),
    ]
}

/// Objects that are there before versioning begins.
fn before() -> impl Strategy<Value = Call> {
    (select(vec!["a", "a/b", "b"]), 50..99_u64).prop_map(|(key, seed)| Call::Plain { key, seed })
}

/// Runs `cases` random histories of versions against a fresh store each, and against the model. To be called from a plain `#[test]`.
pub fn versions_model<F, Fut>(fresh: F, cases: u32)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&(vec(before(), 0..3), vec(call(), 1..30)), |(before, calls)| {
        runtime.block_on(async {
            let subject = fresh().await;
            if subject.provider().versions().is_none() {
                return Ok(());
            }
            let mut keys: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
            for call in before.iter().chain(&calls) {
                step(&subject, &mut keys, call).await.map_err(TestCaseError::fail)?;
            }
            Ok(())
        })
    });
    if let Err(difference) = outcome {
        panic!("provider and model of versions differ: {difference}");
    }
}

/// Puts an entry on top, as the state of versioning has it.
fn push(entries: &mut Vec<Entry>, entry: Entry, versioning: Versioning) {
    if versioning == Versioning::Suspended {
        entries.retain(|entry| entry.id != VersionId::Null);
    }
    entries.insert(0, entry);
}

async fn step(subject: &Subject, keys: &mut BTreeMap<&'static str, Vec<Entry>>, call: &Call) -> Result<(), String> {
    let versions = subject.provider().versions().ok_or("the facet is gone")?;
    let said = |error: crate::Error| format!("{call:?}: {error}");
    match call {
        Call::Plain { key: name, seed } => {
            let bytes = content(*seed, *seed as usize);
            subject.put(name, bytes.clone()).await;
            keys.insert(name, vec![Entry { id: VersionId::Null, content: Some(bytes) }]);
        }
        Call::Put { key: name, seed, versioning } => {
            let bytes = content(*seed, *seed as usize);
            let info = versions.put_version(&key(name), body(&bytes), &PutOptions::default(), *versioning).await.map_err(said)?;
            let entry = Entry { id: version_of(&info.attributes), content: Some(bytes) };
            push(keys.entry(name).or_default(), entry, *versioning);
        }
        Call::Mark { key: name, versioning } => {
            let info = versions.mark_deleted(&key(name), &DeleteWhen::Always, *versioning).await.map_err(said)?;
            push(keys.entry(name).or_default(), Entry { id: version_of(&info.attributes), content: None }, *versioning);
        }
        Call::Remove { key: name, at } => {
            let entries = keys.entry(name).or_default();
            if entries.is_empty() {
                return Ok(());
            }
            let entry = entries.remove(at.index(entries.len()));
            let removed =
                versions.remove_version(&key(name), &entry.id, &DeleteWhen::Always, &Guard::none()).await.map_err(said)?;
            let removed = removed.ok_or_else(|| format!("{call:?}: {} was not there", entry.id))?;
            if is_marker(&removed) != entry.content.is_none() {
                return Err(format!("{call:?}: removed {removed:?}"));
            }
        }
        Call::Restore { key: name, at, versioning } => {
            let entries = keys.entry(name).or_default();
            if entries.is_empty() {
                return Ok(());
            }
            let entry = entries[at.index(entries.len())].clone();
            let from = (&key(name), Some(&entry.id));
            let copied = versions.copy_version(from, &key(name), &CopyOptions::default(), *versioning).await;
            match (copied, entry.content) {
                (Ok(info), Some(content)) => {
                    push(entries, Entry { id: version_of(&info.attributes), content: Some(content) }, *versioning);
                }
                (Err(_), None) => {}
                (Ok(_), None) => return Err(format!("{call:?}: a marker was copied")),
                (Err(error), Some(_)) => return Err(said(error)),
            }
        }
    }
    compare(subject, versions, keys).await.map_err(|difference| format!("after {call:?}: {difference}"))
}

async fn compare(subject: &Subject, versions: &dyn Versions, keys: &BTreeMap<&'static str, Vec<Entry>>) -> Result<(), String> {
    let due: Vec<Told> = keys
        .iter()
        .flat_map(|(name, entries)| {
            entries.iter().map(|entry| Told {
                key: (*name).to_owned(),
                id: entry.id,
                marker: entry.content.is_none(),
                size: entry.content.as_ref().map_or(0, |content| content.len() as u64),
            })
        })
        .collect();
    for limit in [2, 1000] {
        let is = walk(versions, "", limit).await;
        if is != due {
            return Err(format!("pages of {limit}:\n  are {is:?}\n  due {due:?}"));
        }
    }
    let current = keys.iter().filter(|(_, entries)| entries.first().is_some_and(|entry| entry.content.is_some()));
    let current: Vec<_> = current.map(|(name, _)| (*name).to_owned()).collect();
    if subject.keys().await != current {
        return Err(format!("keys are {:?}, due {current:?}", subject.keys().await));
    }
    for (name, entries) in keys {
        for entry in entries {
            let object = versions.get_version(&key(name), &entry.id, &ReadOptions::default()).await;
            let object = object.map_err(|e| format!("get of {} of {name:?}: {e}", entry.id))?;
            let bytes = bytes_of(object).await;
            if bytes != entry.content.clone().unwrap_or_default() {
                return Err(format!("{} of {name:?} has other bytes", entry.id));
            }
        }
    }
    Ok(())
}
