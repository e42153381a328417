//! The reader: a tree of elements with text, no more. CDATA is text; a document type, and with it every entity bomb, is refused.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::error::{Error, ErrorKind};
use crate::runtime::aside;
use crate::s3::error::{Code, Failure, Result};

/// No S3 document is nested deeper than this.
const MAX_DEPTH: usize = 16;
/// No S3 document has more elements: a Complete of 10 000 parts with all their checksums has about 80 000. An element takes
/// twenty times the memory of its shortest text.
const MAX_ELEMENTS: usize = 160_000;

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name without a namespace prefix.
    pub(crate) name: String,
    /// Its text, trimmed only if it has children.
    pub(crate) text: String,
    /// Its children in order.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The first child of a name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The text of the first child of a name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|c| c.text.as_str())
    }

    /// All children of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }
}

fn malformed() -> Failure {
    Code::MalformedXML.into()
}

/// The largest document that is read at once, in bytes. A larger one would keep a thread from its other connections for milliseconds.
const READ_AT_ONCE: usize = 256 * 1024;

/// Reads the body of a request as [`parse`] does, a large one where it keeps nobody waiting.
///
/// # Errors
/// `MalformedXML`, and `InternalError` where it could not be read.
pub(crate) async fn read(body: Vec<u8>, root: &'static str) -> Result<Element> {
    let read = aside(body.len() > READ_AT_ONCE, move || parse(&body, root)).await;
    read.map_err(|error| Error::new(ErrorKind::Internal, "read a document").caused_by(error))?
}

/// Reads a document whose root has this name.
///
/// # Errors
/// `MalformedXML` for anything else.
pub(crate) fn parse(bytes: &[u8], root: &str) -> Result<Element> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut done: Option<Element> = None;
    let mut elements = 0;
    let mut end = |open: &mut Vec<Element>, mut element: Element| -> Result<()> {
        if !element.children.is_empty() {
            element.text = element.text.trim().to_owned();
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(element),
            None if done.is_none() => done = Some(element),
            None => return Err(malformed()),
        }
        Ok(())
    };
    loop {
        let event = reader.read_event().map_err(|_| malformed())?;
        if matches!(event, Event::Start(_) | Event::Empty(_)) {
            elements += 1;
            if elements > MAX_ELEMENTS {
                return Err(malformed());
            }
        }
        match event {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(malformed());
                }
                open.push(Element { name: start.local_name().as_ref().to_owned(), ..Element::default() });
            }
            Event::Empty(start) => {
                let element = Element { name: start.local_name().as_ref().to_owned(), ..Element::default() };
                end(&mut open, element)?;
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(malformed)?;
                end(&mut open, element)?;
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                match open.last_mut() {
                    Some(element) => element.text.push_str(&text),
                    None if text.trim().is_empty() => {}
                    None => return Err(malformed()),
                }
            }
            Event::CData(text) => {
                let text = text.xml10_content();
                open.last_mut().ok_or_else(malformed)?.text.push_str(&text);
            }
            Event::GeneralRef(reference) => {
                let element = open.last_mut().ok_or_else(malformed)?;
                if let Some(character) = reference.resolve_char_ref().map_err(|_| malformed())? {
                    element.text.push(character);
                } else {
                    element.text.push_str(quick_xml::escape::resolve_xml_entity(&reference).ok_or_else(malformed)?);
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return Err(malformed()),
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(malformed());
    }
    done.filter(|e| e.name == root).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn large_documents_are_read_elsewhere() {
        let document = |bytes: usize| format!("<a>{}</a>", "x".repeat(bytes)).into_bytes();
        let here = read(document(READ_AT_ONCE / 2), "a").now_or_never();
        assert_eq!(here.unwrap().unwrap().text.len(), READ_AT_ONCE / 2);
        let mut elsewhere = Box::pin(read(document(READ_AT_ONCE), "a"));
        assert!((&mut elsewhere).now_or_never().is_none());
        assert_eq!(elsewhere.await.unwrap().text.len(), READ_AT_ONCE);
        assert_eq!(read(document(READ_AT_ONCE), "b").await.unwrap_err().code(), Code::MalformedXML);
    }

    #[test]
    fn a_tree_has_an_end() {
        let document = |count: usize| format!("<Delete>{}</Delete>", "<a/>".repeat(count));
        assert!(parse(document(MAX_ELEMENTS - 1).as_bytes(), "Delete").is_ok());
        assert_eq!(parse(document(MAX_ELEMENTS).as_bytes(), "Delete").unwrap_err().code(), Code::MalformedXML);
    }

    #[test]
    fn entities_and_cdata_are_text() {
        let doc = b"<?xml version=\"1.0\"?>\n<Delete xmlns=\"x\"><Object><Key>a&amp;&#x31;&lt;</Key></Object>\
                    <Object><Key><![CDATA[<b&>]]></Key></Object><Object><Key/></Object></Delete>";
        let root = parse(doc, "Delete").unwrap();
        let keys: Vec<_> = root.all("Object").filter_map(|o| o.text_of("Key")).collect();
        assert_eq!(keys, ["a&1<", "<b&>", ""]);
    }

    #[test]
    fn spaces_of_a_key_stay() {
        assert_eq!(parse(b"<K> a b </K>", "K").unwrap().text, " a b ");
    }

    #[test]
    fn what_is_no_document_is_malformed() {
        for bad in [
            &b""[..],
            b"<a>",
            b"<a></b>",
            b"<a/><a/>",
            b"x<a/>",
            b"<b/>",
            b"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            b"<a>&x;</a>",
            b"\xff<a/>",
        ] {
            assert_eq!(parse(bad, "a").unwrap_err().code(), Code::MalformedXML, "{bad:?}");
        }
        assert!(parse("<a>".repeat(40).as_bytes(), "a").is_err());
    }
}
