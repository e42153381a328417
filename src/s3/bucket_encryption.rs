//! The default encryption of a bucket
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ServerSideEncryptionConfiguration.html>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{Code, Failure, Result};
use super::xml::{Element, Xml};
use crate::encryption::Wish;
use crate::namespaces::Namespace;

/// The settings document.
pub(crate) const SETTING: &str = "encryption";

/// What objects get that no request says anything about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    /// `AES256` or `aws:kms`.
    algorithm: String,
    /// The key of `aws:kms`; the gateway's default when `None`.
    key: Option<String>,
    bucket_key: Option<bool>,
}

/// What the bucket wishes for its objects.
pub(crate) fn default_wish(namespace: &Namespace) -> Option<Wish> {
    let configuration = namespace.compiled(SETTING, Configuration::from_json)?;
    Some(match configuration.algorithm.as_str() {
        "aws:kms" => Wish::Kms {
            key: configuration.key.clone(),
            context: BTreeMap::new(),
            bucket_key: configuration.bucket_key.unwrap_or(false),
        },
        _ => Wish::Gateway,
    })
}

impl Configuration {
    /// Reads what [`to_json`](Self::to_json) wrote. Of a document that cannot be read, the gateway's own encryption remains: nothing
    /// is stored in the clear for it.
    pub(crate) fn from_json(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_else(|error| {
            tracing::error!(%error, "the encryption of a bucket cannot be read: AES256 it is");
            Self { algorithm: "AES256".to_owned(), key: None, bucket_key: None }
        })
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|_| Code::InternalError.into())
    }

    /// Reads the document of a client.
    ///
    /// # Errors
    /// `MalformedXML`, `InvalidArgument`, `NotImplemented`.
    pub(crate) fn from_xml(root: &Element) -> Result<Self> {
        let malformed = || Failure::from(Code::MalformedXML);
        let [rule] = root.children.as_slice() else { return Err(malformed()) };
        if rule.name != "Rule" {
            return Err(malformed());
        }
        let (mut default, mut bucket_key) = (None, None);
        for child in &rule.children {
            match child.name.as_str() {
                "ApplyServerSideEncryptionByDefault" if default.is_none() => default = Some(child),
                "BucketKeyEnabled" if bucket_key.is_none() => {
                    bucket_key = Some(child.text.trim().parse::<bool>().map_err(|_| malformed())?);
                }
                "BlockedEncryptionTypes" => {
                    return Err(Failure::not_implemented("Blocked encryption types are not implemented."));
                }
                _ => return Err(malformed()),
            }
        }
        let default = default.ok_or_else(malformed)?;
        let (mut algorithm, mut key) = (None, None);
        for child in &default.children {
            let text = child.text.trim().to_owned();
            match child.name.as_str() {
                "SSEAlgorithm" if algorithm.is_none() => algorithm = Some(text),
                "KMSMasterKeyID" if key.is_none() => key = Some(text).filter(|key| !key.is_empty()),
                _ => return Err(malformed()),
            }
        }
        let algorithm = algorithm.ok_or_else(malformed)?;
        match algorithm.as_str() {
            "AES256" if key.is_some() => {
                let message = "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse";
                Err(Failure::because(Code::InvalidArgument, message))
            }
            "AES256" | "aws:kms" => Ok(Self { algorithm, key, bucket_key }),
            "aws:kms:dsse" => Err(Failure::not_implemented("Dual-layer server-side encryption is not implemented.")),
            _ => Err(malformed()),
        }
    }

    pub(crate) fn to_xml(&self) -> Xml {
        let mut xml = Xml::document();
        xml.root("ServerSideEncryptionConfiguration");
        xml.open("Rule");
        xml.open("ApplyServerSideEncryptionByDefault");
        xml.text("SSEAlgorithm", &self.algorithm);
        if let Some(key) = &self.key {
            xml.text("KMSMasterKeyID", key);
        }
        xml.close("ApplyServerSideEncryptionByDefault");
        xml.text("BucketKeyEnabled", if self.bucket_key.unwrap_or(false) { "true" } else { "false" });
        xml.close("Rule");
        xml.close("ServerSideEncryptionConfiguration");
        xml
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::xml;
    use super::*;

    fn read(inside: &str) -> Result<Configuration, Code> {
        let text = format!("<ServerSideEncryptionConfiguration>{inside}</ServerSideEncryptionConfiguration>");
        let root = xml::parse(text.as_bytes(), "ServerSideEncryptionConfiguration").map_err(|f| f.code())?;
        Configuration::from_xml(&root).map_err(|f| f.code())
    }

    fn rule(default: &str) -> String {
        format!("<Rule><ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault></Rule>")
    }

    #[test]
    fn documents_come_back_as_they_went_in() {
        let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>arn:aws:kms:eu-west-1:1:key/k</KMSMasterKeyID>";
        for (inside, bucket_key) in [
            (rule("<SSEAlgorithm>AES256</SSEAlgorithm>"), "false"),
            (rule(kms), "false"),
            (rule(kms).replace("</Rule>", "<BucketKeyEnabled>true</BucketKeyEnabled></Rule>"), "true"),
        ] {
            let configuration = read(&inside).unwrap();
            assert_eq!(Configuration::from_json(&configuration.to_json().unwrap()), configuration);
            let shown = String::from_utf8(configuration.to_xml().finish().to_vec()).unwrap();
            assert!(shown.contains(inside.split("<BucketKey").next().unwrap().trim_end_matches("</Rule>")), "{shown}");
            assert!(shown.contains(&format!("<BucketKeyEnabled>{bucket_key}</BucketKeyEnabled>")));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let malformed = Err(Code::MalformedXML);
        let aes = rule("<SSEAlgorithm>AES256</SSEAlgorithm>");
        for text in ["", "<Rule/>", "<Other/>", &format!("{aes}{aes}"), &rule(""), &rule("<SSEAlgorithm>DES</SSEAlgorithm>")] {
            assert_eq!(read(text), malformed, "{text}");
        }
        let both = rule("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>");
        assert_eq!(read(&both), Err(Code::InvalidArgument));
        assert_eq!(read(&rule("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>")), Err(Code::NotImplemented));
    }
}
