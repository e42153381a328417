//! Runs of sorted names, which sorted directories ([`crate::snapshot`]) are made of.

use std::cmp::Ordering;

use crate::seen::SeenPart;

/// The most bytes of the names of a chunk. With one more name they stay below 2^16.
const CHUNK_BYTES: usize = 32 * 1024;

/// A run of sorted names. What all of them begin with is kept once: of names in an order most of their letters.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    begin: String,
    /// How the names go on, one after the other.
    text: String,
    /// Where each ends in `text`.
    ends: Vec<u16>,
    pub(crate) seen: SeenPart,
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        Self { begin: self.begin.clone(), text: self.text.clone(), ends: self.ends.clone(), seen: self.seen.copied() }
    }
}

impl Chunk {
    /// How many names it has.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn from(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| usize::from(*end))
    }

    /// How the name goes on after what all begin with.
    fn rest(&self, at: usize) -> Option<&str> {
        let end = usize::from(*self.ends.get(at)?);
        self.text.get(self.from(at)..end)
    }

    pub(crate) fn name(&self, at: usize) -> Option<String> {
        Some([&self.begin, self.rest(at)?].concat())
    }

    pub(crate) fn push_name(&self, at: usize, into: &mut String) -> Option<()> {
        let rest = self.rest(at)?;
        into.push_str(&self.begin);
        into.push_str(rest);
        Some(())
    }

    pub(crate) fn compare(&self, at: usize, name: &str) -> Option<Ordering> {
        let (rest, name) = (self.rest(at)?.as_bytes(), name.as_bytes());
        let (first, last) = name.split_at(self.begin.len().min(name.len()));
        Some(self.begin.as_bytes().cmp(first).then_with(|| rest.cmp(last)))
    }

    pub(crate) fn compare_last(&self, name: &str) -> Option<Ordering> {
        self.compare(self.ends.len().checked_sub(1)?, name)
    }

    /// The first position whose name `before` denies.
    pub(crate) fn seek(&self, mut before: impl FnMut(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The bytes of all names, written out.
    fn bytes(&self) -> usize {
        self.text.len() + self.begin.len() * self.ends.len()
    }

    pub(crate) fn is_full(&self, names: usize) -> bool {
        self.ends.len() >= names || self.bytes() >= CHUNK_BYTES
    }

    /// Adds a name to a chunk in which nothing is kept once yet.
    pub(crate) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        // Names have at most some 2050 bytes and a full chunk takes no more.
        self.ends.push(u16::try_from(self.text.len()).unwrap_or(u16::MAX));
    }

    pub(crate) fn insert(&mut self, at: usize, name: &str) {
        let common = common(&self.begin, name);
        if common < self.begin.len() {
            self.begin_with(common);
        }
        let from = self.from(at);
        let rest = &name[common..];
        self.text.reserve_exact(rest.len() + 256);
        self.text.insert_str(from, rest);
        let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
        let end = u16::try_from(from).unwrap_or(u16::MAX).saturating_add(length);
        self.ends.reserve_exact(16);
        self.ends.insert(at, end);
        self.ends[at + 1..].iter_mut().for_each(|end| *end = end.saturating_add(length));
        self.seen.insert(at);
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let from = self.from(at);
        let Some(length) = self.rest(at).map(str::len) else { return };
        self.text.replace_range(from..from + length, "");
        self.ends.remove(at);
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.ends[at..].iter_mut().for_each(|end| *end = end.saturating_sub(length));
        self.seen.remove(at);
    }

    /// The upper half, taken off. What was seen is forgotten.
    pub(crate) fn split(&mut self) -> Self {
        let middle = self.ends.len() / 2;
        let from = self.from(middle);
        let mut upper = Self { begin: self.begin.clone(), text: self.text[from..].to_owned(), ..Self::default() };
        let base = u16::try_from(from).unwrap_or(u16::MAX);
        upper.ends = self.ends[middle..].iter().map(|end| end - base).collect();
        self.text.truncate(from);
        self.ends.truncate(middle);
        self.seen = SeenPart::default();
        self.compact();
        upper.compact();
        upper
    }

    /// Keeps once what all names begin with, and no more room than they need.
    pub(crate) fn compact(&mut self) {
        if let (Some(first), Some(last)) = (self.rest(0), self.ends.len().checked_sub(1).and_then(|last| self.rest(last))) {
            // Sorted as they are, all others begin so too.
            let more = common(first, last);
            if more > 0 {
                self.begin_with(self.begin.len() + more);
            }
        }
        self.begin.shrink_to_fit();
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Changes how many bytes are kept once; all names begin with as many. Written out they are less than 2^16, so that every end is.
    fn begin_with(&mut self, bytes: usize) {
        let Some(mut begin) = self.name(0) else { return };
        begin.truncate(bytes);
        let old = std::mem::take(self);
        *self = Self { begin, seen: old.seen, ..Self::default() };
        let (back, on) = (old.begin.get(bytes..).unwrap_or(""), bytes.saturating_sub(old.begin.len()));
        self.ends.reserve_exact(old.ends.len());
        self.text.reserve_exact((old.text.len() + back.len() * old.ends.len()).saturating_sub(on * old.ends.len()));
        let mut from = 0;
        for end in old.ends {
            self.text.push_str(back);
            self.text.push_str(old.text.get(from + on..usize::from(end)).unwrap_or(""));
            self.ends.push(u16::try_from(self.text.len()).unwrap_or(u16::MAX));
            from = usize::from(end);
        }
    }

    pub(crate) fn weight(&self) -> usize {
        self.begin.capacity() + self.text.capacity() + self.ends.capacity() * size_of::<u16>() + size_of::<Self>() + 24
    }
}

/// How many bytes two texts have in common at their beginning: of whole characters.
fn common(one: &str, other: &str) -> usize {
    let mut bytes = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    while !one.is_char_boundary(bytes) {
        bytes -= 1;
    }
    bytes
}
