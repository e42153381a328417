//! From keys to paths and back.
//!
//! A segment of a key (the text between slashes) is the file or directory of that very name wherever a file system can hold it.
//! All other names on disk begin with `.sluice`, so a segment that begins like that is never plain:
//!
//! | on disk | means |
//! |---|---|
//! | `.sluice%TEXT` | a segment that cannot be a name: empty, `.`, `..`, with NUL, or beginning with `.sluice` |
//! | `.sluice=TEXT` | the object `TEXT`, while a directory (or something that is not a file) has the plain name |
//! | `.sluice+TEXT/` | the beginning of a segment longer than a name can be; the rest lies inside |
//!
//! In `TEXT`, `%` is written `%25` and NUL `%00`. A segment has exactly one plain and one side form; anything else on disk that
//! begins with `.sluice` belongs to nobody and is not listed. The hidden space is `.sluice` itself, in the root.

/// The name of the hidden space, and the beginning of every name that is not plain.
pub(crate) const RESERVED: &str = ".sluice";
const ESCAPED: &str = ".sluice%";
const SIDE: &str = ".sluice=";
const CONTINUED: &str = ".sluice+";
const PREFIX_BYTES: usize = 8;
/// The longest name of a directory entry in bytes (NAME_MAX of every file system that is accepted).
pub(crate) const NAME_BYTES: usize = 255;

/// In which of its two places an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Under its own name.
    Plain,
    /// Beside what took its name.
    Side,
}

/// A name on disk, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The end of a segment, in its plain form.
    Plain(String),
    /// The end of a segment, in its side form.
    Side(String),
    /// The beginning of a segment that goes on inside.
    Continued(String),
}

/// Whether a segment is its own name on disk.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES
        && text != "."
        && text != ".."
        && !text.starts_with(RESERVED)
        && !text.as_bytes().contains(&0)
}

fn escape(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            0 => out.extend_from_slice(b"%00"),
            _ => out.push(byte),
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 3)? {
            "25" => out.push('%'),
            "00" => out.push('\0'),
            _ => return None,
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Some(out)
}

/// How many bytes of `text` fit into `room` bytes once escaped; always ends between characters.
fn fitting(text: &str, room: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += if matches!(c, '%' | '\0') { 3 } else { c.len_utf8() };
        if used > room {
            return at;
        }
    }
    text.len()
}

/// Appends the path of a segment: one name, or several joined by `/` when it is long.
pub(crate) fn encode(segment: &str, form: Form, out: &mut Vec<u8>) {
    let mut rest = segment;
    loop {
        if form == Form::Plain && is_plain(rest) {
            out.extend_from_slice(rest.as_bytes());
            return;
        }
        let fits = fitting(rest, NAME_BYTES - PREFIX_BYTES);
        if fits == rest.len() {
            out.extend_from_slice(if form == Form::Plain { ESCAPED } else { SIDE }.as_bytes());
            escape(rest, out);
            return;
        }
        out.extend_from_slice(CONTINUED.as_bytes());
        escape(&rest[..fits], out);
        out.push(b'/');
        rest = &rest[fits..];
    }
}

/// The path of a segment.
pub(crate) fn encoded(segment: &str, form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len() + PREFIX_BYTES);
    encode(segment, form, &mut out);
    out
}

/// Reads one name on disk; `None` when it is no part of any key.
pub(crate) fn decode(name: &[u8]) -> Option<Piece> {
    let name = std::str::from_utf8(name).ok()?;
    if !name.starts_with(RESERVED) {
        return Some(Piece::Plain(name.to_owned()));
    }
    if let Some(text) = name.strip_prefix(ESCAPED) {
        unescape(text).map(Piece::Plain)
    } else if let Some(text) = name.strip_prefix(SIDE) {
        unescape(text).map(Piece::Side)
    } else {
        name.strip_prefix(CONTINUED).and_then(unescape).map(Piece::Continued)
    }
}

/// A key as paths below the root.
#[derive(Clone, Debug)]
pub(crate) struct KeyPath {
    key: String,
    /// The directory that holds the object: `` or `a/b`.
    pub(crate) dir: Vec<u8>,
    /// Where the last segment begins in the key.
    leaf: usize,
}

impl KeyPath {
    pub(crate) fn new(key: &str) -> Self {
        let leaf = key.rfind('/').map_or(0, |at| at + 1);
        Self { dir: directory(&key[..leaf]), leaf, key: key.to_owned() }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The last segment.
    pub(crate) fn leaf(&self) -> &str {
        &self.key[self.leaf..]
    }

    /// The path of the object below the root.
    pub(crate) fn path(&self, form: Form) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.dir.len() + 1 + self.leaf().len());
        path.extend_from_slice(&self.dir);
        if !path.is_empty() {
            path.push(b'/');
        }
        encode(self.leaf(), form, &mut path);
        path
    }
}

/// The path of the directory of a key prefix that is empty or ends with `/`.
pub(crate) fn directory(prefix: &str) -> Vec<u8> {
    let mut path = Vec::with_capacity(prefix.len());
    if let Some(prefix) = prefix.strip_suffix('/') {
        for segment in prefix.split('/') {
            if !path.is_empty() {
                path.push(b'/');
            }
            encode(segment, Form::Plain, &mut path);
        }
    }
    path
}

/// A path split into the directories above its last name, if any, and that name.
pub(crate) fn split(path: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use proptest::prelude::*;

    fn path(key: &str) -> String {
        String::from_utf8(KeyPath::new(key).path(Form::Plain)).unwrap()
    }

    #[test]
    fn ordinary_keys_are_ordinary_paths() {
        for key in ["a", "a/b/c.txt", ".hidden", "...", "with space/ü/100%", "~/-/+", "tab\there"] {
            assert_eq!(path(key), key);
        }
    }

    #[test]
    fn what_a_path_cannot_say_is_escaped() {
        assert_eq!(path("a/"), "a/.sluice%");
        assert_eq!(path("/a"), ".sluice%/a");
        assert_eq!(path("a//b"), "a/.sluice%/b");
        assert_eq!(path("../.."), ".sluice%../.sluice%..");
        assert_eq!(path(".sluice/staging"), ".sluice%.sluice/staging");
        assert_eq!(path("x\0%"), ".sluice%x%00%25");
        assert_eq!(String::from_utf8(encoded("a", Form::Side)).unwrap(), ".sluice=a");
    }

    /// Reads a path back; asserts that every name fits.
    fn read(path: &[u8]) -> Option<(String, Form)> {
        let mut text = String::new();
        for name in path.split(|&b| b == b'/') {
            assert!((1..=NAME_BYTES).contains(&name.len()), "{}", name.len());
            assert!(name != b"." && name != b".." && !name.contains(&0) && name != RESERVED.as_bytes());
            match decode(name)? {
                Piece::Continued(more) => text.push_str(&more),
                Piece::Plain(end) => return Some((text + &end, Form::Plain)),
                Piece::Side(end) => return Some((text + &end, Form::Side)),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn every_segment_has_a_path_of_its_own(
            segment in prop_oneof![
                "[^/]{0,12}",
                "[ab%\0é.]{0,600}".prop_filter("bytes", |s| s.len() <= 1024),
                "\\.sluice[%=+]?[a%]{0,4}",
                "a{240,270}",
                "%{70,100}",
            ],
            side: bool,
        ) {
            let form = if side { Form::Side } else { Form::Plain };
            prop_assert_eq!(read(&encoded(&segment, form)), Some((segment, form)));
        }
    }
}
