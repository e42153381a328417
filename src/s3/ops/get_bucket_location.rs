//! GetBucketLocation.

use crate::s3::call::{Answer, Call, document};
use crate::s3::xml::Xml;

pub(crate) fn call(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let mut xml = Xml::document();
    xml.root("LocationConstraint");
    let region = call.region(&namespace);
    // The first region has no name here.
    if region != "us-east-1" {
        xml.raw_text(region);
    }
    xml.close("LocationConstraint");
    Ok(document(xml))
}
