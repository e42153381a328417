//! Object ownership (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>).

use crate::namespaces::Namespace;
use crate::s3::error::{Code, Result};
use crate::s3::xml::{Element, Xml};

/// Whose an object is that somebody else than the bucket's owner writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The bucket's owner's, and lists mean nothing.
    BucketOwnerEnforced,
    /// The bucket's owner's if the writer grants full control to it.
    BucketOwnerPreferred,
    /// The writer's. What holds without a document, too.
    ObjectWriter,
}

impl Ownership {
    /// The settings document.
    pub(crate) const SETTING: &str = "ownership";

    const ALL: [Self; 3] = [Self::BucketOwnerEnforced, Self::BucketOwnerPreferred, Self::ObjectWriter];

    /// As S3 names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }

    /// By S3's name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }

    /// What a bucket has been told; `None` without a document.
    pub(crate) fn of(namespace: &Namespace) -> Option<Self> {
        // What cannot be read opens nothing.
        namespace.setting(Self::SETTING).map(|name| Self::from_name(&name).unwrap_or(Self::BucketOwnerEnforced))
    }

    /// Whether lists of a bucket and of its objects mean nothing.
    pub(crate) fn is_enforced(namespace: &Namespace) -> bool {
        Self::of(namespace) == Some(Self::BucketOwnerEnforced)
    }

    /// Reads `<OwnershipControls>`, which has exactly one rule.
    ///
    /// # Errors
    /// `MalformedXML`.
    pub(crate) fn from_xml(root: &Element) -> Result<Self> {
        let [rule] = root.children.as_slice() else { return Err(Code::MalformedXML.into()) };
        let name = rule.text_of("ObjectOwnership").filter(|_| rule.name == "Rule").unwrap_or_default();
        Self::from_name(name.trim()).ok_or_else(|| Code::MalformedXML.into())
    }

    /// As `<OwnershipControls>`.
    pub(crate) fn to_xml(self) -> Xml {
        let mut xml = Xml::document();
        xml.root("OwnershipControls");
        xml.open("Rule");
        xml.text("ObjectOwnership", self.name());
        xml.close("Rule");
        xml.close("OwnershipControls");
        xml
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_shown_can_be_put_back() {
        let read = |text: &str| Ownership::from_xml(&crate::s3::xml::parse(text.as_bytes(), "OwnershipControls").unwrap());
        for ownership in Ownership::ALL {
            assert_eq!(read(&ownership.to_xml().finish()).unwrap(), ownership);
        }
        let rule = |name: &str| format!("<Rule><ObjectOwnership>{name}</ObjectOwnership></Rule>");
        for bad in [String::new(), rule("Nobody"), rule("ObjectWriter").repeat(2), "<Rule/>".to_owned()] {
            let code = read(&format!("<OwnershipControls>{bad}</OwnershipControls>")).unwrap_err().code();
            assert_eq!(code, Code::MalformedXML, "{bad}");
        }
    }
}
