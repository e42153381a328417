//! The query of a request: decoded once, in order.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::{Code, Failure, Result};

/// Name and value pairs. A name without `=` has an empty value.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a URI, where `+` stands for a space as the signature's canonical form reads it.
    ///
    /// # Errors
    /// `InvalidURI` when it is not UTF-8.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self> {
        let Some(query) = query.filter(|q| !q.is_empty()) else { return Ok(Self::default()) };
        let decode = |text: &str| -> Result<String> {
            let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
            match percent_decode_str(&text).decode_utf8() {
                Ok(text) => Ok(text.into_owned()),
                Err(_) => Err(Code::InvalidURI.into()),
            }
        };
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the name is there, with a value or without.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of a name in any case.
    pub(crate) fn named_any_case(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether any name is there twice.
    pub(crate) fn repeats(&self) -> bool {
        self.0.iter().enumerate().any(|(at, (name, _))| self.0.iter().take(at).any(|(other, _)| other == name))
    }

    /// The pairs in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<(String, String)> {
        let mut pairs = self.0.clone();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        pairs
    }

    /// Only the pairs of these names.
    pub(crate) fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
