//! The configuration: what it may say, how it is kept, which rule a request meets.

use serde::{Deserialize, Serialize};

use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml::{Element, Xml};

/// The most rules of a configuration.
const MAX_RULES: usize = 100;
/// The longest `ID` of a rule in characters.
const MAX_ID: usize = 255;
/// The methods that a rule can allow.
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// The configuration of a bucket. The first rule that a request meets counts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    origins: Vec<String>,
    /// The methods it allows.
    pub(crate) methods: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<String>,
    /// The headers of an answer that a page may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exposed: Vec<String>,
    /// For how long a browser may remember a preflight, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<i32>,
}

/// Whether a method is one of those that a rule can allow.
pub(crate) fn is_method(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Whether text fits a pattern in which one `*` stands for any characters, none too.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail),
    }
}

impl Rule {
    fn from_xml(element: &Element) -> Result<Self> {
        let mut rule = Self::default();
        for child in &element.children {
            let text = child.text.trim();
            let filled = || if text.is_empty() { Err(Failure::new(Code::MalformedXML)) } else { Ok(text.to_owned()) };
            match child.name.as_str() {
                "ID" if rule.id.is_none() && text.chars().count() <= MAX_ID => rule.id = Some(text.to_owned()),
                "AllowedOrigin" => rule.origins.push(with_one_wildcard("AllowedOrigin", filled()?)?),
                "AllowedMethod" => rule.methods.push(method(filled()?)?),
                "AllowedHeader" => rule.headers.push(with_one_wildcard("AllowedHeader", filled()?)?),
                "ExposeHeader" if text.contains('*') => {
                    return Err(Failure::request(format!(
                        "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
                    )));
                }
                "ExposeHeader" => rule.exposed.push(header_name("ExposeHeader", filled()?)?),
                "MaxAgeSeconds" if rule.max_age.is_none() => {
                    rule.max_age = Some(text.parse().ok().filter(|s| *s >= 0).ok_or(Code::MalformedXML)?);
                }
                _ => return Err(Code::MalformedXML.into()),
            }
        }
        if rule.origins.is_empty() || rule.methods.is_empty() {
            return Err(Code::MalformedXML.into());
        }
        Ok(rule)
    }

    fn write(&self, xml: &mut Xml) {
        xml.open("CORSRule");
        if let Some(id) = &self.id {
            xml.text("ID", id);
        }
        let lists = [
            ("AllowedMethod", &self.methods),
            ("AllowedOrigin", &self.origins),
            ("AllowedHeader", &self.headers),
            ("ExposeHeader", &self.exposed),
        ];
        for (name, list) in lists {
            for item in list {
                xml.text(name, item);
            }
        }
        if let Some(seconds) = self.max_age {
            xml.plain("MaxAgeSeconds", seconds);
        }
        xml.close("CORSRule");
    }

    /// Whether every origin is allowed to use it, so that an answer need not name one.
    pub(crate) fn is_for_all(&self, origin: &str) -> bool {
        // The pattern that fits first counts: a page that is named before `*` may send credentials.
        self.origins.iter().find(|pattern| fits(pattern, origin)).is_some_and(|pattern| pattern == "*")
    }

    fn allows(&self, origin: &str, method: &str, headers: &[String]) -> bool {
        self.methods.iter().any(|m| m == method)
            && self.origins.iter().any(|pattern| fits(pattern, origin))
            && headers.iter().all(|h| self.headers.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), h)))
    }
}

fn method(method: String) -> Result<String> {
    if is_method(&method) {
        Ok(method)
    } else {
        Err(Failure::request(format!("Found unsupported HTTP method in CORS config. Unsupported method is {method}")))
    }
}

fn with_one_wildcard(element: &str, pattern: String) -> Result<String> {
    if pattern.matches('*').count() > 1 {
        return Err(Failure::request(format!("{element} \"{pattern}\" can not have more than one wildcard.")));
    }
    Ok(pattern)
}

/// A name that can stand in an answer.
fn header_name(element: &str, name: String) -> Result<String> {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(Failure::request(format!("{element} \"{name}\" contains invalid character.")));
    }
    Ok(name)
}

impl Configuration {
    /// Reads a `<CORSConfiguration>`.
    ///
    /// # Errors
    /// `MalformedXML`; `InvalidRequest` for a method that cannot be allowed, a second `*` in a pattern, more than 100 rules.
    pub(crate) fn from_xml(document: &Element) -> Result<Self> {
        if document.children.is_empty() || document.children.iter().any(|c| c.name != "CORSRule") {
            return Err(Code::MalformedXML.into());
        }
        if document.children.len() > MAX_RULES {
            return Err(Failure::request(format!(
                "The number of CORS rules should not exceed allowed limit of {MAX_RULES} rules."
            )));
        }
        Ok(Self { rules: document.children.iter().map(Rule::from_xml).collect::<Result<_>>()? })
    }

    /// The `<CORSConfiguration>`.
    pub(crate) fn to_xml(&self) -> Xml {
        let mut xml = Xml::document();
        xml.root("CORSConfiguration");
        for rule in &self.rules {
            rule.write(&mut xml);
        }
        xml.close("CORSConfiguration");
        xml
    }

    /// As it is kept.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From what was kept. What cannot be read allows nothing.
    pub(crate) fn from_json(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// The first rule that a request meets: its origin (case counts), its method, and every header that the page wants to send
    /// (given in lower case).
    pub(crate) fn rule(&self, origin: &str, method: &str, headers: &[String]) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.allows(origin, method, headers))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::s3::xml;

    fn read(rules: &str) -> Result<Configuration> {
        let text = format!("<CORSConfiguration>{rules}</CORSConfiguration>");
        Configuration::from_xml(&xml::parse(text.as_bytes(), "CORSConfiguration")?)
    }

    fn rule(origin: &str, method: &str, more: &str) -> String {
        format!("<CORSRule><AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>{method}</AllowedMethod>{more}</CORSRule>")
    }

    #[test]
    fn one_wildcard_stands_for_anything() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "A", false),
            ("start*end", "startend", true),
            ("start*end", "start1end", true),
            ("start*end", "0startend", false),
            ("aba*ba", "aba", false),
            ("*.suffix", ".suffix", true),
            ("*.suffix", "x.suffix.y", false),
            ("http://*.example.com", "http://a.b.example.com", true),
            ("http://*.example.com", "https://a.example.com", false),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_is_met_counts() {
        let all = rule("http://a", "PUT", "<AllowedHeader>x-amz-*</AllowedHeader><MaxAgeSeconds>1</MaxAgeSeconds>")
            + &rule("*", "GET", "<MaxAgeSeconds>2</MaxAgeSeconds>")
            + &rule("http://*", "PUT", "<AllowedHeader>Content-Type</AllowedHeader><MaxAgeSeconds>3</MaxAgeSeconds>");
        let all = read(&all).unwrap();
        let met = |origin: &str, method: &str, headers: &[&str]| {
            let headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
            all.rule(origin, method, &headers).and_then(|r| r.max_age)
        };
        assert_eq!(met("http://a", "PUT", &[]), Some(1));
        assert_eq!(met("http://a", "PUT", &["x-amz-date"]), Some(1));
        assert_eq!(met("http://a", "PUT", &["content-type"]), Some(3));
        assert_eq!(met("http://a", "PUT", &["content-type", "x-amz-date"]), None, "no one rule allows both");
        assert_eq!(met("http://A", "PUT", &[]), Some(3));
        assert_eq!(met("x", "GET", &[]), Some(2));
        assert_eq!(met("x", "GET", &["range"]), None);
        assert_eq!(met("http://a", "DELETE", &[]), None);
    }

    #[test]
    fn what_aws_refuses_is_refused() {
        let code = |rules: &str| read(rules).map(|_| ()).map_err(|f| f.code());
        let refused = Err(Code::InvalidRequest);
        let malformed = Err(Code::MalformedXML);
        assert_eq!(code(&rule("*", "GET", "")), Ok(()));
        assert_eq!(code(&rule("*", "PATCH", "")), refused);
        assert_eq!(code(&rule("*", "get", "")), refused);
        assert_eq!(code(&rule("*.a.*", "GET", "")), refused);
        assert_eq!(code(&rule("*", "GET", "<AllowedHeader>*-*</AllowedHeader>")), refused);
        assert_eq!(code(&rule("*", "GET", "<ExposeHeader>*</ExposeHeader>")), refused);
        assert_eq!(code(&rule("*", "GET", "<ExposeHeader>a b</ExposeHeader>")), refused);
        assert_eq!(code(&rule("*", "GET", "").repeat(100)), Ok(()));
        assert_eq!(code(&rule("*", "GET", "").repeat(101)), refused);
        assert_eq!(code(""), malformed);
        assert_eq!(code("<Rule/>"), malformed);
        assert_eq!(code("<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>"), malformed);
        assert_eq!(code("<CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule>"), malformed);
        assert_eq!(code(&rule("", "GET", "")), malformed);
        assert_eq!(code(&rule("*", "GET", "<MaxAgeSeconds>x</MaxAgeSeconds>")), malformed);
        assert_eq!(code(&rule("*", "GET", "<Other/>")), malformed);
        assert_eq!(code(&rule("*", "GET", &format!("<ID>{}</ID>", "x".repeat(256)))), malformed);
    }

    #[test]
    fn what_is_shown_and_kept_can_be_read_back() {
        let more =
            "<ID>a&amp;b</ID><AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds>";
        let all = read(&(rule("*", "GET", more) + &rule("http://x", "PUT", ""))).unwrap();
        let shown = all.to_xml().finish();
        assert_eq!(Configuration::from_xml(&xml::parse(shown.as_bytes(), "CORSConfiguration").unwrap()).unwrap(), all);
        assert_eq!(Configuration::from_json(&all.to_json()), all);
        assert_eq!(Configuration::from_json("{").rule("x", "GET", &[]), None, "a damaged document allows nothing");
    }
}
