//! Bucket names.

use std::net::Ipv4Addr;

use crate::error::{Error, ErrorKind, Result};

/// Beginnings that AWS reserves, so that a name that works here works there.
const RESERVED_PREFIXES: [&str; 2] = ["xn--", "sthree-"];
/// Endings that AWS reserves.
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Refuses what cannot be a bucket: 3 to 63 characters of `[a-z0-9.-]`, made of labels that begin and end with a letter or digit,
/// not an IPv4 address, not reserved (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
/// Such a name is safe as a single path component too.
///
/// # Errors
/// `InvalidBucketName`.
pub fn check_bucket_name(name: &str) -> Result<()> {
    let label = |label: &str| {
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.starts_with(alphanumeric) && label.ends_with(alphanumeric) && label.chars().all(|c| alphanumeric(c) || c == '-')
    };
    let sound = (3..=63).contains(&name.len())
        && name.split('.').all(label)
        && name.parse::<Ipv4Addr>().is_err()
        && !RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
        && !RESERVED_SUFFIXES.iter().any(|s| name.ends_with(s));
    if sound { Ok(()) } else { Err(Error::new(ErrorKind::InvalidBucketName, "bucket name").with("name", format!("{name:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_s3() {
        for good in ["abc", "a.b", "my-bucket", "1.2.3", "123", "a--b", "bucket.example.com", &"x".repeat(63)] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in [
            "",
            "ab",
            &long,
            "Abc",
            "a_b",
            "a..b",
            ".ab",
            "ab.",
            "-ab",
            "ab-",
            "a.-b",
            "a-.b",
            "192.168.5.4",
            "..",
            "../",
            "a/b",
            "a b",
            "bücket",
            "xn--abc",
            "sthree-abc",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "a\0b",
        ] {
            assert!(check_bucket_name(bad).is_err(), "{bad:?}");
        }
    }
}
