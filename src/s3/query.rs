//! The query of a request: decoded once, in order.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::{Code, Failure, Result};

/// Name and value pairs. A name without `=` has an empty value.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// All names and values, decoded, one behind the other: a presigned URL has seven pairs, and most of them nobody looks at.
    text: String,
    /// Where each name begins, where it ends and its value begins, and where that ends.
    pairs: Vec<(usize, usize, usize)>,
    /// A bit for each name: most names that are looked for are not there, and this tells it at once.
    marks: u64,
}

impl Query {
    /// Reads the query of a URI, where `+` stands for a space as the signature's canonical form reads it.
    ///
    /// # Errors
    /// `InvalidURI` when it is not UTF-8.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self> {
        let Some(query) = query.filter(|q| !q.is_empty()) else { return Ok(Self::default()) };
        let mut text = String::with_capacity(query.len());
        let mut decode = |encoded: &str| -> Result<usize> {
            if memchr::memchr2(b'%', b'+', encoded.as_bytes()).is_none() {
                text.push_str(encoded);
            } else {
                let encoded: Cow<'_, str> = if encoded.contains('+') { encoded.replace('+', " ").into() } else { encoded.into() };
                text.push_str(&percent_decode_str(&encoded).decode_utf8().map_err(|_| Code::InvalidURI)?);
            }
            Ok(text.len())
        };
        let mut pairs = Vec::with_capacity(8);
        let mut start = 0;
        for (name, value) in encoded(query) {
            let (middle, end) = (decode(name)?, decode(value)?);
            pairs.push((start, middle, end));
            start = end;
        }
        let marks = pairs.iter().fold(0, |marks, &(start, middle, _)| marks | mark(&text[start..middle]));
        Ok(Self { text, pairs, marks })
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|&(start, middle, end)| (&self.text[start..middle], &self.text[middle..end]))
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        if self.marks & mark(name) == 0 {
            return None;
        }
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Whether the name is there, with a value or without.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// The value of a name in any case.
    pub(crate) fn named_any_case(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Whether any name is there twice.
    pub(crate) fn repeats(&self) -> bool {
        self.iter().enumerate().any(|(at, (name, _))| self.iter().take(at).any(|(other, _)| other == name))
    }

    /// The pairs in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<_> = self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        pairs
    }

    /// Only the pairs of these names.
    pub(crate) fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut kept = Self::default();
        for (name, value) in self.iter().filter(|(name, _)| keep(name)) {
            let start = kept.text.len();
            kept.text.push_str(name);
            let middle = kept.text.len();
            kept.text.push_str(value);
            kept.pairs.push((start, middle, kept.text.len()));
            kept.marks |= mark(name);
        }
        kept
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// A value that is not empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// A page size: absent or empty means 1000, which is also the most that is given.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no number, or a negative one.
    pub(crate) fn page_size(&self, name: &'static str) -> Result<usize> {
        let Some(text) = self.filled(name) else { return Ok(1000) };
        match text.parse::<i64>() {
            Ok(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok(usize::try_from(n).unwrap_or(1000).min(1000)),
            Ok(_) => Err(Failure::argument(name, text, format!("Argument {name} must be an integer between 0 and 2147483647"))),
            Err(_) => Err(Failure::argument(name, text, format!("Provided {name} not an integer or within integer range"))),
        }
    }

    /// Whether `encoding-type=url` is asked for.
    ///
    /// # Errors
    /// `InvalidArgument` for any other type.
    pub(crate) fn url_encoding(&self) -> Result<bool> {
        match self.filled("encoding-type") {
            None => Ok(false),
            Some("url") => Ok(true),
            Some(other) => Err(Failure::argument("encoding-type", other, "Invalid Encoding Method specified in Request")),
        }
    }
}

/// The names and values of a query as they are written, without pairs that are empty. A name without `=` has an empty value.
pub(crate) fn encoded(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(query);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let pair = match memchr::memchr(b'&', text.as_bytes()) {
                Some(at) => {
                    rest = text.get(at + 1..);
                    text.get(..at)?
                }
                None => rest.take()?,
            };
            if pair.is_empty() {
                continue;
            }
            let at = memchr::memchr(b'=', pair.as_bytes());
            return at.map_or(Some((pair, "")), |at| Some((pair.get(..at)?, pair.get(at + 1..)?)));
        }
    })
}

fn mark(name: &str) -> u64 {
    let first = name.bytes().next().map_or(0, usize::from);
    1 << ((name.len() + 3 * first) % 64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let q = Query::parse(Some("uploads&prefix=a%2Fb+c&x=%C3%A9=1&&versionId")).unwrap();
        assert!(q.has("uploads") && q.has("versionId") && !q.has("upload"));
        assert_eq!((q.get("prefix"), q.get("x"), q.get("uploads")), (Some("a/b c"), Some("é=1"), Some("")));
        assert_eq!(Query::parse(Some("a=%ff")).unwrap_err().code(), Code::InvalidURI);
    }

    #[test]
    fn page_sizes_are_clamped_and_checked() {
        let size = |q: &str| Query::parse(Some(q)).unwrap().page_size("max-keys").map_err(|e| e.code());
        assert_eq!(size("a=1"), Ok(1000));
        assert_eq!(size("max-keys="), Ok(1000));
        assert_eq!(size("max-keys=0"), Ok(0));
        assert_eq!(size("max-keys=5000"), Ok(1000));
        assert_eq!(size("max-keys=-1"), Err(Code::InvalidArgument));
        assert_eq!(size("max-keys=blah"), Err(Code::InvalidArgument));
    }
}
