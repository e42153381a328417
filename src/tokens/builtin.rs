//! Managed policies that are part of the gateway: everybody may attach them, nobody can change them. Those that AWS has keep its
//! names (<https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html>); the four `Sluice…` ones are the roles of a
//! tenant: read-only, read-write, operator, admin.

/// The beginning of their ARNs.
const ARN: &str = "arn:aws:iam::aws:policy/";

/// A managed policy of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// The policy.
    pub document: &'static str,
}

impl BuiltIn {
    /// The ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("{ARN}{}", self.name)
    }

    /// By ARN.
    #[must_use]
    pub fn by_arn(arn: &str) -> Option<&'static Self> {
        let name = arn.strip_prefix(ARN)?;
        BUILT_IN.iter().find(|policy| policy.name == name)
    }
}

/// All of them, in the order of their names.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "AdministratorAccess",
        description: "Everything in the account.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "AmazonS3FullAccess",
        description: "Everything with all buckets.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "AmazonS3ReadOnlyAccess",
        description: "Reading all buckets and their configuration.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "IAMFullAccess",
        description: "Everything with users, groups, roles, keys and policies.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "IAMReadOnlyAccess",
        description: "Reading users, groups, roles and policies.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*","iam:Simulate*"],"Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "SluiceAdmin",
        description: "The role admin: everything in the account, its users and keys too.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","iam:*","sts:*"],"Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "SluiceOperator",
        description: "The role operator: buckets, their configuration and their objects; reads who is who, and changes nobody.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","iam:Get*","iam:List*"],"Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "SluiceReadOnly",
        description: "The role read-only: lists buckets and reads objects.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject*","s3:GetBucketLocation","s3:ListBucket","s3:ListBucketVersions","s3:ListAllMyBuckets"],"Resource":"*"}]}"#,
    },
    BuiltIn {
        name: "SluiceReadWrite",
        description: "The role read-write: lists buckets, reads, writes and deletes objects.",
        document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject*","s3:GetBucketLocation","s3:ListBucket","s3:ListBucketVersions","s3:ListBucketMultipartUploads","s3:ListMultipartUploadParts","s3:ListAllMyBuckets","s3:PutObject","s3:PutObjectTagging","s3:PutObjectVersionTagging","s3:DeleteObject","s3:DeleteObjectVersion","s3:DeleteObjectTagging","s3:DeleteObjectVersionTagging","s3:AbortMultipartUpload"],"Resource":"*"}]}"#,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::policy::Policy;

    #[test]
    fn they_are_policies_in_order() {
        assert!(BUILT_IN.is_sorted_by_key(|policy| policy.name));
        for policy in BUILT_IN {
            assert!(Policy::parse_identity(policy.document).is_ok(), "{}", policy.name);
            assert_eq!(BuiltIn::by_arn(&policy.arn()), Some(policy));
        }
        assert_eq!(BuiltIn::by_arn("arn:aws:iam::111122223333:policy/SluiceAdmin"), None);
    }
}
