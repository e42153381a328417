//! Access control lists, as far as there are any: every bucket and object is its owner's alone.

use http::HeaderMap;

use super::error::{Code, Failure, Result};
use super::headers::text;
use super::xml::{Element, Xml};

/// Canned ACLs that say what is the case anyway.
const KEPT: [&str; 3] = ["private", "bucket-owner-full-control", "bucket-owner-read"];
/// Canned ACLs that would open something.
const REFUSED: [&str; 5] = ["public-read", "public-read-write", "authenticated-read", "aws-exec-read", "log-delivery-write"];
const GRANTS: [&str; 5] =
    ["x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp"];

/// Checks a canned ACL.
///
/// # Errors
/// `AccessControlListNotSupported` for one that would open something, `InvalidArgument` for an unknown one.
pub(crate) fn check_canned(acl: &str) -> Result<()> {
    if KEPT.contains(&acl) {
        Ok(())
    } else if REFUSED.contains(&acl) {
        Err(Code::AccessControlListNotSupported.into())
    } else {
        Err(Failure::argument("x-amz-acl", acl, "The canned ACL that was given is not known."))
    }
}

/// Checks the ACL headers of a request; answers whether there were any.
///
/// # Errors
/// As [`check_canned`].
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<bool> {
    let canned = text(headers, "x-amz-acl")?;
    let grants = GRANTS.iter().any(|g| headers.contains_key(*g));
    if canned.is_some() && grants {
        return Err(Failure::request("Specifying both Canned ACLs and Header Grants is not allowed"));
    }
    if grants {
        return Err(Code::AccessControlListNotSupported.into());
    }
    if let Some(acl) = canned {
        check_canned(acl)?;
    }
    Ok(canned.is_some())
}

/// Checks an `<AccessControlPolicy>`: it may say that the owner has full control, and nothing more.
///
/// # Errors
/// `MalformedACLError`, `AccessControlListNotSupported`.
pub(crate) fn check_policy(policy: &Element, owner: &str) -> Result<()> {
    let list = policy.child("AccessControlList").ok_or(Code::MalformedACLError)?;
    for grant in &list.children {
        let grantee = grant.child("Grantee").ok_or(Code::MalformedACLError)?;
        let permission = grant.text_of("Permission").ok_or(Code::MalformedACLError)?;
        if !["FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"].contains(&permission) {
            return Err(Code::MalformedACLError.into());
        }
        if grantee.text_of("ID") != Some(owner) || permission != "FULL_CONTROL" {
            return Err(Code::AccessControlListNotSupported.into());
        }
    }
    if list.children.is_empty() {
        // An owner without grants could still change them; there is nothing to keep that difference in.
        return Err(Code::AccessControlListNotSupported.into());
    }
    Ok(())
}

/// The `<AccessControlPolicy>` of everything.
pub(crate) fn to_xml(owner: (&str, Option<&str>)) -> Xml {
    let person = |xml: &mut Xml| {
        xml.text("ID", owner.0);
        if let Some(name) = owner.1 {
            xml.text("DisplayName", name);
        }
    };
    let mut xml = Xml::document();
    xml.root("AccessControlPolicy");
    xml.open("Owner");
    person(&mut xml);
    xml.close("Owner");
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open_with("Grantee", "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"");
    person(&mut xml);
    xml.close("Grantee");
    xml.text("Permission", "FULL_CONTROL");
    xml.close("Grant");
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_what_is_the_case_is_accepted() {
        assert!(check_canned("private").is_ok());
        assert_eq!(check_canned("public-read").unwrap_err().code(), Code::AccessControlListNotSupported);
        assert_eq!(check_canned("x").unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn what_is_shown_can_be_put_back() {
        let text = to_xml(("me", Some("My name"))).finish();
        let policy = crate::s3::xml::parse(text.as_bytes(), "AccessControlPolicy").unwrap();
        assert!(check_policy(&policy, "me").is_ok());
        assert!(check_policy(&policy, "you").is_err());
    }
}
