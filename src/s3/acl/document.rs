//! `<AccessControlPolicy>`, in and out.

use super::People;
use crate::s3::Parts;
use crate::s3::call::write_owner;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml::{Element, Xml};
use crate::tokens::Identity;
use crate::tokens::acl::{Acl, Grant, Grantee, MAX_GRANTS, Permission};

const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";

/// Whom a request means, before anybody has looked whether there is such a grantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Id(String),
    Uri(String),
    Email(String),
}

impl Named {
    /// The grantee.
    ///
    /// # Errors
    /// `InvalidArgument` for an id or group that does not exist, `UnresolvableGrantByEmailAddress`.
    pub(super) async fn resolve(self, parts: &Parts) -> Result<Grantee> {
        match self {
            Self::Id(id) => match parts.tokens.identity_of(&id).await? {
                Some(_) => Ok(Grantee::Identity(id)),
                None => Err(Failure::argument("CanonicalUser/ID", id, "Invalid id")),
            },
            Self::Uri(uri) => {
                Grantee::from_group_uri(&uri).ok_or_else(|| Failure::argument("Group/URI", uri, "Invalid group uri"))
            }
            // Identities have no mail address; a name is what else people know of each other.
            Self::Email(name) => match parts.tokens.identity_named(&name).await? {
                Some(identity) => Ok(Grantee::Identity(identity.id)),
                None => Err(Code::UnresolvableGrantByEmailAddress.into()),
            },
        }
    }
}

fn malformed() -> Failure {
    Code::MalformedACLError.into()
}

/// Reads `<AccessControlPolicy>`: the owner it names and its grants.
///
/// # Errors
/// `MalformedACLError`, and those of [`Named::resolve`].
pub(super) async fn from_xml(parts: &Parts, policy: &Element) -> Result<(String, Vec<Grant>)> {
    let owner = policy.child("Owner").and_then(|o| o.text_of("ID")).ok_or_else(malformed)?;
    let list = policy.child("AccessControlList").ok_or_else(malformed)?;
    if list.children.len() > MAX_GRANTS {
        return Err(malformed());
    }
    let mut grants = Vec::with_capacity(list.children.len());
    for element in &list.children {
        let (named, permission) = grant(element)?;
        grants.push(Grant { grantee: named.resolve(parts).await?, permission });
    }
    Ok((owner.trim().to_owned(), grants))
}

fn grant(element: &Element) -> Result<(Named, Permission)> {
    let grantee = element.child("Grantee").filter(|_| element.name == "Grant").ok_or_else(malformed)?;
    let permission = element.text_of("Permission").and_then(|p| Permission::from_name(p.trim())).ok_or_else(malformed)?;
    let text = |name: &str| grantee.text_of(name).map(|t| t.trim().to_owned());
    // The type is what the grantee is named by; `xsi:type` says no more.
    let named = match (text("ID"), text("URI"), text("EmailAddress")) {
        (Some(id), None, None) => Named::Id(id),
        (None, Some(uri), None) => Named::Uri(uri),
        (None, None, Some(email)) => Named::Email(email),
        _ => return Err(malformed()),
    };
    Ok((named, permission))
}

/// Shows a list. Groups come before identities, each in the order in which they were granted, which means nothing.
///
/// # Errors
/// `ServiceUnavailable`.
pub(crate) async fn to_xml(parts: &Parts, sender: &Identity, list: &Acl) -> Result<Xml> {
    let identity = |grant: &'_ Grant| match &grant.grantee {
        Grantee::Identity(id) => Some(id.clone()),
        _ => None,
    };
    let ids: Vec<String> = list.grants.iter().filter_map(identity).collect();
    let ids = std::iter::once(list.owner.as_str()).chain(ids.iter().map(String::as_str));
    let people = People::find(parts, sender, ids).await?;
    Ok(write(list, &people))
}

fn write(list: &Acl, people: &People) -> Xml {
    let mut xml = Xml::document();
    xml.root("AccessControlPolicy");
    write_owner(&mut xml, "Owner", people.person(&list.owner));
    xml.open("AccessControlList");
    let is_group = |grant: &&Grant| grant.grantee.group_uri().is_some();
    for grant in list.grants.iter().filter(is_group).chain(list.grants.iter().filter(|g| !is_group(g))) {
        xml.open("Grant");
        match (&grant.grantee, grant.grantee.group_uri()) {
            (Grantee::Identity(id), _) => {
                let (id, name) = people.person(id);
                xml.open_with("Grantee", &format!("{XSI} xsi:type=\"CanonicalUser\""));
                xml.text("ID", id);
                if let Some(name) = name {
                    xml.text("DisplayName", name);
                }
            }
            (_, uri) => {
                xml.open_with("Grantee", &format!("{XSI} xsi:type=\"Group\""));
                xml.text("URI", uri.unwrap_or_default());
            }
        }
        xml.close("Grantee");
        xml.text("Permission", grant.permission.name());
        xml.close("Grant");
    }
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::tokens::acl::Canned;

    fn read(text: &str) -> Result<Vec<(Named, Permission)>> {
        let root = crate::s3::xml::parse(text.as_bytes(), "L").unwrap();
        root.children.iter().map(grant).collect()
    }

    #[test]
    fn grants_are_read_by_what_names_the_grantee() {
        let grant =
            |grantee: &str| read(&format!("<L><Grant><Grantee>{grantee}</Grantee><Permission>READ_ACP</Permission></Grant></L>"));
        let one = |named| vec![(named, Permission::ReadAcp)];
        assert_eq!(grant("<ID> a </ID><DisplayName>x</DisplayName>").unwrap(), one(Named::Id("a".into())));
        assert_eq!(grant("<URI>u</URI>").unwrap(), one(Named::Uri("u".into())));
        assert_eq!(grant("<EmailAddress>e</EmailAddress>").unwrap(), one(Named::Email("e".into())));
        for bad in ["", "<ID>a</ID><URI>u</URI>"] {
            assert_eq!(grant(bad).unwrap_err().code(), Code::MalformedACLError, "{bad}");
        }
        for bad in [
            "<L><Grant><Grantee><ID>a</ID></Grantee></Grant></L>",
            "<L><Grant><Grantee><ID>a</ID></Grantee><Permission>SOME</Permission></Grant></L>",
            "<L><Grant><Permission>READ</Permission></Grant></L>",
            "<L><Grunt><Grantee><ID>a</ID></Grantee><Permission>READ</Permission></Grunt></L>",
        ] {
            assert_eq!(read(bad).unwrap_err().code(), Code::MalformedACLError, "{bad}");
        }
    }

    #[test]
    fn groups_are_shown_first() {
        let text = write(&Acl::canned(Canned::PublicRead, "me", "me"), &People::default()).finish();
        let (group, person) = (text.find("AllUsers").unwrap(), text.rfind("<ID>me</ID>").unwrap());
        assert!(group < person, "{text}");
    }
}
