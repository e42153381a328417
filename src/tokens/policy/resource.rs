//! What a statement is about: ARNs with wildcards
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>).

use super::operator::arn_parts;
use super::pattern::{Pattern, Reading, Variables};
use super::vocabulary;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The service: `s3`, `iam`, `sts`.
    pub service: &'a str,
    /// The number of the account that the ARN names; empty for a bucket or an object.
    pub account: &'a str,
    /// What is after that in the ARN: `BUCKET`, `BUCKET/KEY`, `user/PATH/NAME`; `*` for what has no ARN.
    pub name: &'a str,
}

impl<'a> Target<'a> {
    /// A bucket, or `BUCKET/KEY`.
    #[must_use]
    pub const fn s3(name: &'a str) -> Self {
        Self { service: "s3", account: "", name }
    }
}

/// A resource of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Resource {
    /// `*`
    Anything,
    /// An ARN.
    Arn { service: String, region: Pattern, account: Pattern, name: Pattern },
    /// A bucket or object of a bucket policy.
    OfBucket(Pattern),
}

impl Resource {
    /// As an identity's policy has it.
    pub(super) fn read(text: &str, variables: bool) -> Option<Self> {
        if text == "*" {
            return Some(Self::Anything);
        }
        let parts = arn_parts(text, variables);
        let [scheme, partition, service, region, account, name] = parts.as_slice() else { return None };
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if *scheme != "arn" || !(plain(partition) || *partition == "*") || !plain(service) || name.is_empty() {
            return None;
        }
        let read = |text| Pattern::read(text, Reading { wildcards: true, variables, fold: false });
        Some(Self::Arn { service: (*service).to_owned(), region: read(region)?, account: read(account)?, name: read(name)? })
    }

    /// As the policy of this bucket has it.
    pub(super) fn read_of_bucket(text: &str, bucket: &str, variables: bool) -> Option<Self> {
        let resource = match text {
            "*" => text,
            _ => vocabulary::s3_resource(text)?,
        };
        let pattern = Pattern::read(resource, Reading { wildcards: true, variables, fold: false })?;
        let (head, within) = (pattern.head(), format!("{bucket}/"));
        let about_bucket =
            head.starts_with(&within) || if pattern.is_fixed() { head == bucket } else { within.starts_with(&head) };
        about_bucket.then_some(Self::OfBucket(pattern))
    }

    pub(super) fn fits(&self, target: Target<'_>, variables: Variables<'_>) -> bool {
        match self {
            Self::Anything => true,
            Self::OfBucket(name) => target.service == "s3" && name.fits(target.name, variables),
            Self::Arn { service, region, account, name } => {
                *service == target.service
                    && region.fits("", variables)
                    && account.fits(target.account, variables)
                    && name.fits(target.name, variables)
            }
        }
    }

    /// The keys of its variables.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let patterns = match self {
            Self::Anything => [None, None],
            Self::OfBucket(name) => [Some(name), None],
            Self::Arn { account, name, .. } => [Some(name), Some(account)],
        };
        patterns.into_iter().flatten().flat_map(Pattern::keys)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn arns_of_services_do_not_mix() {
        let user = Target { service: "iam", account: "111122223333", name: "user/a/eve" };
        for (text, target, want) in [
            ("*", user, true),
            ("*", Target::s3("b/k"), true),
            ("arn:aws:s3:::*", Target::s3("b/k"), true),
            ("arn:aws:s3:::*", user, false),
            ("arn:aws:s3:*:*:b", Target::s3("b"), true),
            ("arn:aws:s3:eu-1::b", Target::s3("b"), false),
            ("arn:aws:s3::111122223333:b", Target::s3("b"), false),
            ("arn:aws:iam::111122223333:user/*", user, true),
            ("arn:aws:iam::*:user/*/eve", user, true),
            ("arn:aws:iam::444422223333:user/*", user, false),
            ("arn:*:iam::111122223333:role/*", user, false),
        ] {
            assert_eq!(Resource::read(text, true).unwrap().fits(target, &|_| None), want, "{text}");
        }
        for bad in ["", "b", "arn:aws:s3:::", "arn:aws:*:::b", "arn:aws:s3", "arn::s3:::b", "arn:aws:s3:::${aws:x"] {
            assert_eq!(Resource::read(bad, true), None, "{bad}");
        }
    }
}
