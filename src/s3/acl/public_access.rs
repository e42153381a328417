//! The public access block (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>).

use serde::{Deserialize, Serialize};

use crate::namespaces::Namespace;
use crate::s3::error::{Code, Result};
use crate::s3::xml::{Element, Xml};

/// What a bucket refuses to have public. The halves about policies are kept for those who evaluate policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicAccessBlock {
    /// Public lists are not accepted.
    pub(crate) block_public_acls: bool,
    /// The public grants of lists that are there grant nothing.
    pub(crate) ignore_public_acls: bool,
    /// Public policies are not accepted.
    pub(crate) block_public_policy: bool,
    /// A public policy lets nobody in from outside.
    pub(crate) restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// The settings document.
    pub(crate) const SETTING: &str = "public_access_block";

    /// What a bucket has been told; `None` without a document.
    pub(crate) fn kept(namespace: &Namespace) -> Option<Self> {
        // What cannot be read opens nothing.
        let strict =
            Self { block_public_acls: true, ignore_public_acls: true, block_public_policy: true, restrict_public_buckets: true };
        namespace.setting(Self::SETTING).map(|json| serde_json::from_str(&json).unwrap_or(strict))
    }

    /// What holds in a bucket: nothing is blocked without a document.
    pub(crate) fn of(namespace: &Namespace) -> Self {
        Self::kept(namespace).unwrap_or_default()
    }

    /// As it is stored.
    pub(crate) fn to_json(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// Reads `<PublicAccessBlockConfiguration>`; what is not named is false.
    ///
    /// # Errors
    /// `MalformedXML`.
    pub(crate) fn from_xml(root: &Element) -> Result<Self> {
        let mut block = Self::default();
        for element in &root.children {
            let value = match element.text.trim() {
                text if text.eq_ignore_ascii_case("true") => true,
                text if text.eq_ignore_ascii_case("false") => false,
                _ => return Err(Code::MalformedXML.into()),
            };
            match element.name.as_str() {
                "BlockPublicAcls" => block.block_public_acls = value,
                "IgnorePublicAcls" => block.ignore_public_acls = value,
                "BlockPublicPolicy" => block.block_public_policy = value,
                "RestrictPublicBuckets" => block.restrict_public_buckets = value,
                _ => return Err(Code::MalformedXML.into()),
            }
        }
        Ok(block)
    }

    /// As `<PublicAccessBlockConfiguration>`.
    pub(crate) fn to_xml(self) -> Xml {
        let mut xml = Xml::document();
        xml.root("PublicAccessBlockConfiguration");
        xml.plain("BlockPublicAcls", self.block_public_acls);
        xml.plain("IgnorePublicAcls", self.ignore_public_acls);
        xml.plain("BlockPublicPolicy", self.block_public_policy);
        xml.plain("RestrictPublicBuckets", self.restrict_public_buckets);
        xml.close("PublicAccessBlockConfiguration");
        xml
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_shown_can_be_put_back() {
        let read = |text: &str| {
            PublicAccessBlock::from_xml(&crate::s3::xml::parse(text.as_bytes(), "PublicAccessBlockConfiguration").unwrap())
        };
        let block = PublicAccessBlock { ignore_public_acls: true, restrict_public_buckets: true, ..Default::default() };
        assert_eq!(read(&block.to_xml().finish()).unwrap(), block);
        assert_eq!(serde_json::from_str::<PublicAccessBlock>(&block.to_json()).unwrap(), block);
        let inside = |x: &str| read(&format!("<PublicAccessBlockConfiguration>{x}</PublicAccessBlockConfiguration>"));
        assert_eq!(inside("").unwrap(), PublicAccessBlock::default());
        assert!(inside("<BlockPublicAcls>TRUE</BlockPublicAcls>").unwrap().block_public_acls);
        assert!(inside("<BlockPublicAcls>1</BlockPublicAcls>").is_err() && inside("<Else>true</Else>").is_err());
    }
}
