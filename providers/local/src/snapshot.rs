//! Directories, read once and sorted by key.
//!
//! The entries of a directory come in no useful order, so a page in the middle would cost reading all of them. A sorted snapshot
//! is kept instead ([`crate::shelf`]). It is a list of chunks of some hundred names, shared with whoever walks it: a change copies
//! one chunk, and a walk that is under way goes on in what it began with.
//!
//! Beside the names a chunk holds what listings saw of the objects, while somebody tells when that changes. A change makes another
//! chunk, so that what is seen late is written into one that nobody looks at any more.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::seen::Seen;

/// The most names of a chunk; a merge leaves room for a few more.
const CHUNK_NAMES: usize = 512;
const FILLED_NAMES: usize = 448;
/// The names that are sorted at once when a directory is read.
const BATCH_NAMES: usize = 1 << 16;
const BATCH_BYTES: usize = 2 << 20;

/// A position in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    chunk: usize,
    name: usize,
}

impl At {
    pub(crate) fn next(self) -> Self {
        Self { name: self.name + 1, ..self }
    }

    /// Whether it lies in another chunk.
    pub(crate) fn is_beyond(self, chunk: usize) -> bool {
        self.chunk != chunk
    }
}

/// The entries of a directory as parts of keys: `name` for an object, `name/` for a directory, sorted by bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// None of them empty.
    chunks: Vec<Arc<Chunk>>,
    names: usize,
    /// What the chunks weigh without what was seen.
    weight: usize,
    /// Of a directory too large to be held: the name from which on it is complete …
    begin: String,
    /// … and the last one up to which it is. Further ones follow.
    end: Option<String>,
    /// Something in it can change without a change of the directory itself: parts of names that lie in directories of their own,
    /// links that lead elsewhere.
    pub(crate) unsteady: bool,
    /// Whether somebody tells when the objects in it change, so that what was seen of them holds.
    pub(crate) told: bool,
}

impl Snapshot {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.names
    }

    /// The position, or the first of the next chunk.
    fn settle(&self, at: At) -> Option<(&Arc<Chunk>, At)> {
        let chunk = self.chunks.get(at.chunk)?;
        if at.name < chunk.len() {
            return Some((chunk, at));
        }
        let next = At { chunk: at.chunk + 1, name: 0 };
        self.chunks.get(next.chunk).map(|chunk| (chunk, next))
    }

    /// Adds the name at a position to `into`, ending with `/` for a directory, and answers the position itself: one behind the last of
    /// a chunk is the first of the next.
    pub(crate) fn entry(&self, at: At, into: &mut String) -> Option<At> {
        let (chunk, at) = self.settle(at)?;
        chunk.push_name(at.name, into)?;
        Some(at)
    }

    /// Whether there is a name at or behind a position.
    pub(crate) fn goes_on(&self, at: At) -> bool {
        self.settle(at).is_some()
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.chunks.iter().flat_map(|chunk| (0..chunk.len()).filter_map(|at| chunk.name(at)))
    }

    /// The first position whose name `before` denies; it must hold for all names up to there.
    pub(crate) fn seek(&self, mut before: impl FnMut(&str) -> bool) -> At {
        let mut name = String::new();
        let mut before = |chunk: &Chunk, at: usize| {
            name.clear();
            chunk.push_name(at, &mut name).is_some_and(|()| before(&name))
        };
        let chunk = self.chunks.partition_point(|chunk| chunk.len().checked_sub(1).is_some_and(|last| before(chunk, last)));
        At { chunk, name: self.chunks.get(chunk).map_or(0, |chunk| chunk.seek(|at| before(chunk, at))) }
    }

    /// Where to read on, when the directory is too large to be held.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Whether all names that follow `from` up to some further point are here.
    pub(crate) fn covers(&self, from: &str) -> bool {
        from >= self.begin.as_str() && self.end.as_ref().is_none_or(|end| from < end.as_str())
    }

    fn holds(&self, name: &str) -> bool {
        name >= self.begin.as_str() && self.end.as_ref().is_none_or(|end| name <= end.as_str())
    }

    /// What was seen of the object at a position.
    pub(crate) fn seen<T>(&self, at: At, use_it: impl FnOnce(&Seen) -> T) -> Option<T> {
        let chunk = self.chunks.get(at.chunk).filter(|_| self.told)?;
        chunk.seen.get(at.name, use_it)
    }

    /// Keeps what was seen of the object at a position after the snapshot was handed out.
    pub(crate) fn see(&self, at: At, seen: Seen) {
        if let Some(chunk) = self.chunks.get(at.chunk).filter(|_| self.told) {
            chunk.seen.put(at.name, chunk.len(), seen);
        }
    }

    /// Says that a page comes to a chunk. Answers which one it is.
    pub(crate) fn touch(&self, at: At) -> usize {
        if let Some(chunk) = self.chunks.get(at.chunk).filter(|_| self.told) {
            chunk.seen.touch();
        }
        at.chunk
    }

    /// Forgets what was seen and not looked at since the last call.
    pub(crate) fn forget_unseen(&self) {
        self.chunks.iter().for_each(|chunk| chunk.seen.age());
    }

    /// Forgets what was seen longer ago. Answers whether something is left.
    pub(crate) fn forget_older(&self, than: Duration) -> bool {
        // All of them: `any` would stop at the first.
        self.chunks.iter().filter(|chunk| chunk.seen.forget_older(than)).count() > 0
    }

    /// Puts a name in or takes it out. What was seen of it is forgotten.
    pub(crate) fn set(&mut self, name: &str, present: bool) {
        if !self.holds(name) {
            return;
        }
        // Behind the last name of all it belongs into the last chunk.
        let last = self.chunks.len().saturating_sub(1);
        let index = self.chunks.partition_point(|chunk| chunk.compare_last(name).is_some_and(Ordering::is_lt)).min(last);
        let Some(shared) = self.chunks.get_mut(index) else {
            if present {
                let mut chunk = Chunk::default();
                chunk.push(name);
                self.append(chunk);
            }
            return;
        };
        let at = shared.seek(|at| shared.compare(at, name).is_some_and(Ordering::is_lt));
        let there = shared.compare(at, name).is_some_and(Ordering::is_eq);
        if !there && !present {
            return;
        }
        // Before it is copied, which leaves behind what room it has to spare.
        let before = shared.weight();
        let chunk = Arc::make_mut(shared);
        let mut upper = None;
        match (there, present) {
            (true, true) => chunk.seen.clear(at),
            (true, false) => {
                chunk.remove(at);
                self.names -= 1;
            }
            _ => {
                chunk.insert(at, name);
                self.names += 1;
                if chunk.is_full(CHUNK_NAMES) {
                    upper = Some(chunk.split());
                }
            }
        }
        let (after, gone) = (chunk.weight(), chunk.is_empty());
        self.weight = self.weight + after - before;
        if gone {
            self.weight -= after;
            self.chunks.remove(index);
        }
        if let Some(upper) = upper {
            self.weight += upper.weight();
            self.chunks.insert(index + 1, Arc::new(upper));
        }
    }

    fn append(&mut self, mut chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        chunk.compact();
        self.names += chunk.len();
        self.weight += chunk.weight();
        self.chunks.push(Arc::new(chunk));
    }

    /// In bytes, without what was seen.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.weight + self.chunks.capacity() * size_of::<usize>()
    }
}

/// A snapshot in the making: names come unsorted and are merged by the batch, so that it never takes much more than it will weigh.
#[derive(Debug)]
pub(crate) struct Reading {
    done: Snapshot,
    text: String,
    batch: Vec<(u32, u32)>,
    /// The bounds of what is held at once; of a larger directory what follows `from` is.
    window: usize,
    bytes: usize,
    from: String,
}

impl Reading {
    pub(crate) fn new(from: &str, window: usize, bytes: usize) -> Self {
        Self {
            done: Snapshot::default(),
            text: String::new(),
            batch: Vec::new(),
            window: window.max(1),
            bytes,
            from: from.to_owned(),
        }
    }

    pub(crate) fn push(&mut self, name: &str, directory: bool) {
        let begin = self.text.len();
        self.text.push_str(name);
        if directory {
            self.text.push('/');
        }
        if !self.done.holds(&self.text[begin..]) {
            self.text.truncate(begin);
            return;
        }
        // The text of a batch is far smaller than 4 GiB.
        if let (Ok(begin), Ok(end)) = (u32::try_from(begin), u32::try_from(self.text.len())) {
            self.batch.push((begin, end));
        }
        if self.batch.len() >= BATCH_NAMES.min(self.window) || self.text.len() >= BATCH_BYTES {
            self.merge();
        }
    }

    /// Something in the directory can change without it.
    pub(crate) fn unsteady(&mut self) {
        self.done.unsteady = true;
    }

    pub(crate) fn finish(mut self) -> Snapshot {
        self.merge();
        self.done.chunks.shrink_to_fit();
        self.done
    }

    fn merge(&mut self) {
        let text = std::mem::take(&mut self.text);
        let mut batch = std::mem::take(&mut self.batch);
        let name = |&(begin, end): &(u32, u32)| &text[begin as usize..end as usize];
        batch.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        // An object that lies at both its places counts once.
        batch.dedup_by(|b, a| name(a) == name(b));
        let mut batch = batch.iter().map(name).peekable();
        let done = &mut self.done;
        let old = std::mem::take(&mut done.chunks);
        (done.names, done.weight) = (0, 0);
        let mut chunk = Chunk::default();
        let push = |done: &mut Snapshot, chunk: &mut Chunk, name: &str| {
            chunk.push(name);
            if chunk.is_full(FILLED_NAMES) {
                done.append(std::mem::take(chunk));
            }
        };
        // Each of the old goes when it is copied.
        let mut name = String::new();
        for old in old {
            for at in 0..old.len() {
                name.clear();
                let _ = old.push_name(at, &mut name);
                let name = name.as_str();
                while let Some(new) = batch.next_if(|new| *new < name) {
                    push(done, &mut chunk, new);
                }
                batch.next_if(|new| *new == name);
                push(done, &mut chunk, name);
            }
        }
        for name in batch {
            push(done, &mut chunk, name);
        }
        done.append(chunk);
        if done.names > self.window || done.weight > self.bytes {
            self.shrink();
        }
        self.text = text;
        self.text.clear();
    }

    /// Keeps the smaller half of what is not before `from`.
    fn shrink(&mut self) {
        let from = std::mem::take(&mut self.from);
        // Two at least: the first may be the one that is read on from.
        let kept = (self.window / 2).max(2);
        let (names, weight) = (kept.min(self.done.names), self.done.weight.max(1));
        let bytes = (self.done.names.saturating_mul(self.bytes / 2) / weight).max(2);
        let mut at = self.done.seek(|name| name < from.as_str());
        let old = std::mem::take(&mut self.done);
        let (mut chunk, mut left) = (Chunk::default(), names.min(bytes));
        self.done.unsteady = old.unsteady;
        self.done.end.clone_from(&old.end);
        let mut name = String::new();
        while let Some(here) = old.entry(at, &mut name) {
            if left == 0 {
                let last = Some(&chunk).filter(|chunk| !chunk.is_empty()).or(self.done.chunks.last().map(Arc::as_ref));
                self.done.end = last.and_then(|chunk| chunk.name(chunk.len() - 1));
                break;
            }
            left -= 1;
            chunk.push(&name);
            name.clear();
            if chunk.is_full(FILLED_NAMES) {
                self.done.append(std::mem::take(&mut chunk));
            }
            at = here.next();
        }
        self.done.append(chunk);
        self.done.begin.clone_from(&from);
        self.from = from;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read(names: &[&str]) -> Snapshot {
        let mut reading = Reading::new("", usize::MAX, usize::MAX);
        names.iter().for_each(|name| reading.push(name, false));
        reading.finish()
    }

    fn at_position(snapshot: &Snapshot, at: At) -> Option<String> {
        let mut name = String::new();
        snapshot.entry(at, &mut name).map(|_| name)
    }

    #[test]
    fn a_million_names_weigh_less_than_half_of_their_letters() {
        let mut reading = Reading::new("", usize::MAX, usize::MAX);
        // Not in order, as a directory gives them.
        for n in 0..1_000_000_u64 {
            reading.push(&format!("object-{:07}", n * 7_654_321 % 1_000_000), false);
        }
        let snapshot = reading.finish();
        assert_eq!(snapshot.len(), 1_000_000);
        assert!(snapshot.weight() < 6_500_000, "{}", snapshot.weight());
        assert!(snapshot.names().is_sorted());
        let at = snapshot.seek(|name| name < "object-0777777");
        assert_eq!(at_position(&snapshot, at).unwrap(), "object-0777777");
    }

    #[test]
    fn a_walk_goes_on_in_what_it_began_with() {
        let mut now = Arc::new(read(&["a", "b", "c"]));
        let then = Arc::clone(&now);
        Arc::make_mut(&mut now).set("b", false);
        Arc::make_mut(&mut now).set("bb", true);
        assert_eq!(then.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(now.names().collect::<Vec<_>>(), ["a", "bb", "c"]);
    }

    proptest! {
        #[test]
        fn changes_one_by_one_are_a_sorted_set(
            first in proptest::collection::btree_set("[a-cèé]{1,4}/?", 0..40),
            changes in proptest::collection::vec(("[a-cèé]{1,4}/?", any::<bool>()), 0..200),
            long in any::<bool>(),
            watched in any::<bool>(),
        ) {
            let mut walk = None;
            let stretch = |name: &str| if long { format!("{}{name}", name.chars().next().unwrap().to_string().repeat(900)) } else { name.to_owned() };
            let mut model: BTreeSet<String> = first.iter().map(|name| stretch(name)).collect();
            let mut reading = Reading::new("", usize::MAX, usize::MAX);
            model.iter().rev().for_each(|name| reading.push(name, false));
            let mut snapshot = reading.finish();
            for (name, present) in changes {
                let name = stretch(&name);
                // Somebody walks it: what is changed is copied.
                walk = watched.then(|| snapshot.clone()).or(walk);
                snapshot.set(&name, present);
                if present { model.insert(name); } else { model.remove(&name); }
            }
            prop_assert_eq!(snapshot.names().collect::<Vec<_>>(), model.iter().cloned().collect::<Vec<_>>());
            prop_assert_eq!(snapshot.len(), model.len());
            let weight: usize = snapshot.chunks.iter().map(|chunk| chunk.weight()).sum();
            prop_assert_eq!(snapshot.weight, weight);
            for probe in ["", "b", "bb/", "é", "zz"] {
                let at = snapshot.seek(|name| name < probe);
                let wanted = model.range(probe.to_owned()..).next();
                prop_assert_eq!(at_position(&snapshot, at), wanted.cloned());
            }
        }

        #[test]
        fn what_is_too_large_is_read_in_parts(
            names in proptest::collection::btree_set("[a-e]{1,4}", 0..200),
            window in 1usize..50,
        ) {
            let (mut found, mut from) = (Vec::new(), String::new());
            loop {
                let mut reading = Reading::new(&from, window, usize::MAX);
                names.iter().rev().for_each(|name| reading.push(name, false));
                let part = reading.finish();
                prop_assert!(part.len() <= window.max(2));
                prop_assert!(part.covers(&from));
                let mut at = part.seek(|name| found.last().is_some_and(|last: &String| name <= last.as_str()));
                let mut name = String::new();
                while let Some(here) = part.entry(at, &mut name) {
                    found.push(std::mem::take(&mut name));
                    at = here.next();
                }
                match part.end() {
                    Some(end) => from = end.to_owned(),
                    None => break,
                }
            }
            prop_assert_eq!(found, names.into_iter().collect::<Vec<_>>());
        }
    }
}
