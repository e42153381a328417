//! Conditions, decided in one step with the change they guard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::Subject;
use super::bodies::{bytes_of, content, etag_of, last_byte_after};
use super::subject::{key, kind};
use crate::{CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ErrorKind, PutOptions, PutWhen, ReadOptions, Result};

/// How many writers race.
const RACERS: usize = 12;
/// How often a race is run.
const ROUNDS: usize = 5;

/// Each condition of a put, in turn.
pub async fn puts_under_conditions(subject: &Subject) {
    if !subject.features().conditions {
        return refused(subject).await;
    }
    let (one, two) = (etag_of(b"one"), etag_of(b"two"));
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfPresent).await), ErrorKind::NotFound);
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfMatch(one.clone())).await), ErrorKind::NotFound);
    subject.try_put("k", "one", PutWhen::IfAbsent).await.expect("IfAbsent of what is absent");
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfAbsent).await), ErrorKind::PreconditionFailed);
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfMatch(two.clone())).await), ErrorKind::PreconditionFailed);
    subject.try_put("k", "two", PutWhen::IfMatch(one.clone())).await.expect("IfMatch of the current ETag");
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfMatch(one)).await), ErrorKind::PreconditionFailed);
    subject.try_put("k", "three", PutWhen::IfPresent).await.expect("IfPresent of what is there");
    subject.try_put("k", "one", PutWhen::IfMatch(etag_of(b"three"))).await.expect("IfMatch of the current ETag");
    let unless = |text: &[u8]| PutWhen::IfNoneMatch(etag_of(text));
    assert_eq!(kind(subject.try_put("k", "x", unless(b"one")).await), ErrorKind::PreconditionFailed);
    subject.try_put("k", "two", unless(b"two")).await.expect("IfNoneMatch of another ETag");
    assert_eq!(kind(subject.try_put("k", "x", unless(b"two")).await), ErrorKind::PreconditionFailed);
    subject.delete("k").await;
    assert_eq!(kind(subject.try_put("k", "x", PutWhen::IfMatch(two)).await), ErrorKind::NotFound);
    subject.try_put("k", "two", unless(b"two")).await.expect("IfNoneMatch of what is absent");
    subject.delete("k").await;
    subject.try_put("k", "four", PutWhen::IfAbsent).await.expect("IfAbsent after a delete");
    // A key below or above is another key.
    subject.try_put("k/", "five", PutWhen::IfAbsent).await.expect("IfAbsent of `k/` beside `k`");
    subject.try_put("k/l", "six", PutWhen::IfAbsent).await.expect("IfAbsent of `k/l` beside `k`");
    assert_eq!(subject.read("k").await, "four");
}

/// Conditions on both ends of a copy.
pub async fn copies_under_conditions(subject: &Subject) {
    let p = subject.provider();
    let source = subject.put("from", "source").await.etag;
    subject.put("to", "destination").await;
    let (from, to) = (key("from"), key("to"));
    let stale = CopyOptions { source_if_match: Some(etag_of(b"other")), ..CopyOptions::default() };
    assert_eq!(kind(p.copy(&from, &to, &stale).await), ErrorKind::PreconditionFailed);
    assert_eq!(subject.read("to").await, "destination");
    let current = CopyOptions { source_if_match: Some(source.clone()), ..CopyOptions::default() };
    assert_eq!(p.copy(&from, &to, &current).await.expect("copy of the current source").etag, source);
    subject.put("to", "destination").await;
    if !subject.features().conditions {
        return;
    }
    let when = |when| CopyOptions { when, ..CopyOptions::default() };
    assert_eq!(kind(p.copy(&from, &to, &when(PutWhen::IfAbsent)).await), ErrorKind::PreconditionFailed);
    assert_eq!(kind(p.copy(&from, &to, &when(PutWhen::IfMatch(source))).await), ErrorKind::PreconditionFailed);
    assert_eq!(subject.read("to").await, "destination");
    let matching = when(PutWhen::IfMatch(etag_of(b"destination")));
    p.copy(&from, &to, &matching).await.expect("copy onto the ETag that is there");
    assert_eq!(kind(p.copy(&from, &key("none"), &when(PutWhen::IfPresent)).await), ErrorKind::NotFound);
    p.copy(&from, &key("fresh"), &when(PutWhen::IfAbsent)).await.expect("copy to an absent key");
    assert_eq!(subject.keys().await, ["fresh", "from", "to"]);
}

/// Each condition of a delete, in turn.
pub async fn deletes_under_conditions(subject: &Subject) {
    if !subject.features().conditions {
        return;
    }
    let info = subject.put("k", "bytes").await;
    let all = (Some(info.etag.clone()), Some(info.modified), Some(info.size));
    let other_time = info.modified - Duration::from_secs(60);
    let wrong = [
        (Some(etag_of(b"other")), None, None),
        (None, Some(other_time), None),
        (None, None, Some(4)),
        (all.0.clone(), all.1, Some(4)),
        (Some(etag_of(b"other")), all.1, all.2),
    ];
    for (etag, modified, size) in wrong {
        let outcome = delete_when(subject, "k", DeleteWhen::IfMatch { etag, modified, size }).await;
        assert_eq!(kind(outcome), ErrorKind::PreconditionFailed);
        assert_eq!(subject.read("k").await, "bytes");
    }
    let right = [(all.0.clone(), None, None), (None, all.1, None), (None, None, all.2), all.clone(), (None, None, None)];
    for (etag, modified, size) in right {
        let modified = match modified {
            Some(_) => Some(subject.head("k").await.modified),
            None => None,
        };
        let outcome = delete_when(subject, "k", DeleteWhen::IfMatch { etag, modified, size }).await;
        assert_eq!(outcome.expect("delete under conditions that hold"), DeleteOutcome::Deleted { size: 5 });
        subject.assert_absent("k").await;
        subject.put("k", "bytes").await;
    }
    let any = DeleteWhen::IfMatch { etag: None, modified: None, size: None };
    let refusal = kind(delete_when(subject, "none", any).await);
    assert!(matches!(refusal, ErrorKind::PreconditionFailed | ErrorKind::NotFound), "{refusal:?}");

    // The conditions of one call are independent of each other.
    subject.put("l", "bytes").await;
    let keys = [
        DeleteKey { key: key("k"), when: DeleteWhen::IfMatch { etag: None, modified: None, size: Some(1) } },
        DeleteKey { key: key("l"), when: DeleteWhen::IfMatch { etag: None, modified: None, size: Some(5) } },
    ];
    let outcomes = subject.provider().delete(&keys).await;
    let kinds: Vec<_> = outcomes.into_iter().map(|o| o.map_err(|e| *e.kind())).collect();
    assert_eq!(kinds, [Err(ErrorKind::PreconditionFailed), Ok(DeleteOutcome::Deleted { size: 5 })]);
    assert_eq!(subject.keys().await, ["k"]);
}

/// Of many writers that all found the key absent, exactly one creates it.
pub async fn one_of_many_creates(subject: &Subject) {
    if !subject.features().conditions {
        return;
    }
    for round in 0..ROUNDS {
        let name = format!("race/{round}");
        let outcomes = race_puts(subject, &name, &PutWhen::IfAbsent).await;
        assert_one_winner(subject, &name, outcomes, &[ErrorKind::PreconditionFailed]).await;
    }
}

/// Of many writers that hold the same ETag, exactly one replaces it.
pub async fn one_of_many_replaces(subject: &Subject) {
    if !subject.features().conditions {
        return;
    }
    for round in 0..ROUNDS {
        let name = format!("race/{round}");
        let start = subject.put(&name, "start").await.etag;
        let outcomes = race_puts(subject, &name, &PutWhen::IfMatch(start)).await;
        assert_one_winner(subject, &name, outcomes, &[ErrorKind::PreconditionFailed]).await;
    }
}

/// Copies that race to create one key: exactly one does.
pub async fn one_of_many_copies(subject: &Subject) {
    if !subject.features().conditions {
        return;
    }
    for round in 0..ROUNDS {
        let name = format!("race/{round}");
        let mut racers = JoinSet::new();
        for n in 0..RACERS {
            let from = format!("from/{n}");
            subject.put(&from, writing(n)).await;
        }
        let start = Arc::new(Barrier::new(RACERS));
        for n in 0..RACERS {
            let (provider, start, to) = (subject.instance(n), start.clone(), key(&name));
            racers.spawn(async move {
                start.wait().await;
                let copy = CopyOptions { when: PutWhen::IfAbsent, ..CopyOptions::default() };
                (n, provider.copy(&key(&format!("from/{n}")), &to, &copy).await.map(drop))
            });
        }
        let outcomes = racers.join_all().await;
        assert_one_winner(subject, &name, outcomes, &[ErrorKind::PreconditionFailed]).await;
    }
}

/// A counter that many writers raise by reading it and replacing what they read loses no step.
pub async fn a_counter_loses_no_step(subject: &Subject) {
    const STEPS: u32 = 12;
    const WRITERS: u32 = 6;
    if !subject.features().conditions {
        return;
    }
    subject.put("counter", "0").await;
    let start = Arc::new(Barrier::new(WRITERS as usize));
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        let (provider, start) = (subject.instance(n as usize), start.clone());
        writers.spawn(async move {
            start.wait().await;
            let mut done = 0;
            while done < STEPS {
                let object = provider.get(&key("counter"), &ReadOptions::default()).await.expect("get");
                let etag = object.info.etag.clone();
                let seen = String::from_utf8(bytes_of(object).await.into()).expect("digits");
                let next = Bytes::from((seen.parse::<u32>().expect("a number") + 1).to_string());
                let put = PutOptions { when: PutWhen::IfMatch(etag), ..PutOptions::default() };
                // Between what was read and what is written the others have their turn.
                let body = last_byte_after(&next, tokio::task::yield_now());
                match provider.put(&key("counter"), body, &put).await {
                    Ok(_) => done += 1,
                    Err(e) => assert!(lost(e.kind()), "{e}"),
                }
            }
        });
    }
    writers.join_all().await;
    assert_eq!(subject.read("counter").await, (STEPS * WRITERS).to_string());
}

/// Of many deletes exactly one finds the object, with a condition and without.
pub async fn one_of_many_deletes(subject: &Subject) {
    for round in 0..ROUNDS {
        let etag = subject.put("k", "bytes").await.etag;
        let conditional = subject.features().conditions && round % 2 == 1;
        let start = Arc::new(Barrier::new(RACERS));
        let mut racers = JoinSet::new();
        for n in 0..RACERS {
            let (provider, start) = (subject.instance(n), start.clone());
            let when = if conditional {
                DeleteWhen::IfMatch { etag: Some(etag.clone()), modified: None, size: None }
            } else {
                DeleteWhen::Always
            };
            racers.spawn(async move {
                start.wait().await;
                provider.delete(&[DeleteKey { key: key("k"), when }]).await.pop().expect("one outcome")
            });
        }
        let mut found = 0;
        for outcome in racers.join_all().await {
            match outcome {
                Ok(DeleteOutcome::Deleted { size }) => {
                    assert_eq!(size, 5);
                    found += 1;
                }
                Ok(DeleteOutcome::Absent) => assert!(!conditional, "an absent object cannot match"),
                Err(e) => assert!(conditional && lost(e.kind()), "{e}"),
            }
        }
        assert_eq!(found, 1, "of {RACERS} deletes, so many found the one object");
        subject.assert_absent("k").await;
    }
}

/// A put and a delete of the same ETag: one of them happens, not both.
pub async fn a_put_or_a_delete(subject: &Subject) {
    if !subject.features().conditions {
        return;
    }
    for _ in 0..ROUNDS * 3 {
        let etag = subject.put("k", "start").await.etag;
        let start = Arc::new(Barrier::new(2));
        let (writer, deleter) = (subject.instance(0), subject.instance(1));
        let (put_etag, put_start) = (etag.clone(), start.clone());
        let put = tokio::spawn(async move {
            let put = PutOptions { when: PutWhen::IfMatch(put_etag), ..PutOptions::default() };
            let body = last_byte_after(&Bytes::from("replaced"), async move { put_start.wait().await });
            writer.put(&key("k"), body, &put).await
        });
        let delete = tokio::spawn(async move {
            start.wait().await;
            let when = DeleteWhen::IfMatch { etag: Some(etag), modified: None, size: None };
            deleter.delete(&[DeleteKey { key: key("k"), when }]).await.pop().expect("one outcome")
        });
        let (put, delete) = (put.await.expect("the put task"), delete.await.expect("the delete task"));
        match (put, delete) {
            (Ok(_), Err(e)) => {
                assert!(lost(e.kind()), "{e}");
                assert_eq!(subject.read("k").await, "replaced");
            }
            (Err(e), Ok(outcome)) => {
                assert!(lost(e.kind()), "{e}");
                assert_eq!(outcome, DeleteOutcome::Deleted { size: 5 });
                subject.assert_absent("k").await;
            }
            both => panic!("exactly one of the two was due: {both:?}"),
        }
    }
}

/// Conditions that a provider cannot keep are refused, not ignored.
async fn refused(subject: &Subject) {
    let etag = subject.put("k", "old").await.etag;
    for when in [PutWhen::IfAbsent, PutWhen::IfPresent, PutWhen::IfMatch(etag.clone())] {
        for name in ["k", "new"] {
            assert_eq!(kind(subject.try_put(name, "x", when.clone()).await), ErrorKind::Unsupported, "put {when:?}");
            let copy = CopyOptions { when: when.clone(), ..CopyOptions::default() };
            let copied = subject.provider().copy(&key("k"), &key(name), &copy).await;
            assert_eq!(kind(copied), ErrorKind::Unsupported, "copy {when:?}");
        }
    }
    let outcome = delete_when(subject, "k", DeleteWhen::IfMatch { etag: Some(etag), modified: None, size: None }).await;
    assert_eq!(kind(outcome), ErrorKind::Unsupported);
    assert_eq!(subject.read("k").await, "old");
    assert_eq!(subject.keys().await, ["k"]);
}

async fn delete_when(subject: &Subject, name: &str, when: DeleteWhen) -> Result<DeleteOutcome> {
    subject.provider().delete(&[DeleteKey { key: key(name), when }]).await.pop().expect("one outcome for one key")
}

/// What the `n`th racer writes.
fn writing(n: usize) -> Bytes {
    content(n as u64 + 100, 2000 + n)
}

/// Puts that all have been read to their last byte when the first of them can be published, so that a condition that was
/// looked at only before the body shows.
async fn race_puts(subject: &Subject, name: &str, when: &PutWhen) -> Vec<(usize, Result<()>)> {
    let ready = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for n in 0..RACERS {
        let (provider, ready, name) = (subject.instance(n), ready.clone(), key(name));
        let put = PutOptions { when: when.clone(), ..PutOptions::default() };
        racers.spawn(async move {
            // A provider may admit fewer writers at a time than race here: those then go alone.
            let together = async move { tokio::time::timeout(Duration::from_secs(2), ready.wait()).await };
            (n, provider.put(&name, last_byte_after(&writing(n), together), &put).await.map(drop))
        });
    }
    racers.join_all().await
}

async fn assert_one_winner(subject: &Subject, name: &str, outcomes: Vec<(usize, Result<()>)>, losing: &[ErrorKind]) {
    let mut winners = Vec::new();
    for (n, outcome) in outcomes {
        match outcome {
            Ok(()) => winners.push(n),
            Err(e) => assert!(losing.contains(e.kind()) || lost(e.kind()), "{e}"),
        }
    }
    let [winner] = winners[..] else { panic!("exactly one winner was due, not {winners:?}") };
    assert_eq!(subject.read(name).await, writing(winner), "the winner's bytes are the ones that stay");
}

/// How a racer may hear that it lost.
fn lost(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::PreconditionFailed | ErrorKind::Conflict | ErrorKind::NotFound)
}
