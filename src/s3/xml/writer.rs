//! The writer. By hand: a list page of 1000 keys costs a tenth of what a serialiser takes, and no key can make it fail.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::s3::dates;

/// A document under way.
#[derive(Debug)]
pub(crate) struct Xml(String, Option<(u64, String)>);

impl Xml {
    /// A document with its declaration.
    pub(crate) fn document() -> Self {
        Self::with_capacity(512)
    }

    /// A document of about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Self(text, None)
    }

    /// A document whose declaration has been sent already.
    pub(crate) fn without_declaration() -> Self {
        Self(String::with_capacity(512), None)
    }

    /// The root element of an S3 document, with its namespace.
    pub(crate) fn root(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push_str(" xmlns=\"");
        self.0.push_str(super::NAMESPACE);
        self.0.push_str("\">");
    }

    /// Begins an element.
    pub(crate) fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    /// Begins an element with attributes, given as they are to stand there.
    pub(crate) fn open_with(&mut self, name: &str, attributes: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push(' ');
        self.0.push_str(attributes);
        self.0.push('>');
    }

    /// Ends an element.
    pub(crate) fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with text, escaped.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        self.escape(text);
        self.close(name);
    }

    /// Text on its own, escaped.
    pub(crate) fn raw_text(&mut self, text: &str) {
        self.escape(text);
    }

    /// An element with a number, or anything else that needs no escaping.
    pub(crate) fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.open(name);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self.close(name);
    }

    /// An element with a number. A list page has a thousand of them, and the formatter takes several times as long.
    pub(crate) fn number(&mut self, name: &str, mut value: u64) {
        self.open(name);
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.0.extend(digits[at..].iter().map(|&digit| char::from(digit)));
        self.close(name);
    }

    /// An element with a time. Objects that were written together lie together: the second of the last one is at hand.
    pub(crate) fn time(&mut self, name: &str, time: SystemTime) {
        self.open(name);
        match (time.duration_since(SystemTime::UNIX_EPOCH), &self.1) {
            (Ok(since), Some((second, text))) if since.as_secs() == *second => self.0.push_str(text),
            (Ok(since), _) => {
                let text = dates::iso(time);
                self.0.push_str(&text);
                self.1 = Some((since.as_secs(), text));
            }
            (Err(_), _) => self.0.push_str(&dates::iso(time)),
        }
        self.close(name);
    }

    /// An element that is always the same, as it is to stand there.
    pub(crate) fn fixed(&mut self, element: &str) {
        self.0.push_str(element);
    }

    /// An element with a quoted ETag.
    pub(crate) fn etag(&mut self, etag: &str) {
        self.0.push_str("<ETag>&quot;");
        self.escape(etag);
        self.0.push_str("&quot;</ETag>");
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn escape(&mut self, text: &str) {
        // Without a branch in it, so that the compiler looks at many bytes at once; most texts are clean.
        let special = |byte: u8| matches!(byte, b'&' | b'<' | b'>' | b'"' | 0..0x20 | 0x7f);
        if !text.bytes().fold(false, |any, byte| any | special(byte)) {
            self.0.push_str(text);
            return;
        }
        let mut clean = 0;
        for (at, byte) in text.bytes().enumerate() {
            let entity = match byte {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                0..0x20 | 0x7f => "",
                _ => continue,
            };
            self.0.push_str(&text[clean..at]);
            clean = at + 1;
            if entity.is_empty() {
                // A control character has no place in XML 1.0; AWS writes the reference all the same, and `encoding-type=url`
                // is the way round it.
                let _ = write!(self.0, "&#x{byte:x};");
            } else {
                self.0.push_str(entity);
            }
        }
        self.0.push_str(&text[clean..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_controls_do_no_harm() {
        let mut xml = Xml::without_declaration();
        xml.text("Key", "a<b>&\"\u{1}é");
        assert_eq!(xml.finish(), "<Key>a&lt;b&gt;&amp;&quot;&#x1;é</Key>");
    }

    #[test]
    fn numbers_and_times_are_those_of_the_formatter() {
        let mut xml = Xml::without_declaration();
        let mut expected = String::new();
        for number in [0, 7, 10, 4096, u64::MAX] {
            xml.number("N", number);
            expected.push_str(&format!("<N>{number}</N>"));
        }
        let at = |millis| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        for time in [
            at(0),
            at(999),
            at(1000),
            at(1_500_000_000_000),
            at(1_500_000_000_001),
            SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1),
        ] {
            xml.time("T", time);
            expected.push_str(&format!("<T>{}</T>", dates::iso(time)));
        }
        assert_eq!(xml.finish(), expected);
    }

    #[test]
    fn an_s3_document_has_its_namespace() {
        let mut xml = Xml::document();
        xml.root("A");
        xml.plain("N", 7);
        xml.etag("e");
        xml.close("A");
        assert_eq!(
            xml.finish(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><N>7</N>\
             <ETag>&quot;e&quot;</ETag></A>"
        );
    }
}
