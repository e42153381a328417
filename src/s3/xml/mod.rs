//! XML as S3 speaks it: a writer that cannot produce what a parser refuses to read back, and a reader that bounds what it builds.

mod reader;
mod writer;

pub(crate) use reader::{Element, parse, read};
pub(crate) use writer::Xml;

/// The namespace of every S3 document.
pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
