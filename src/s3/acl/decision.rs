//! What lists grant. Root and the owner of a bucket need no list, but for objects of other owners; everybody else needs one.

use sluice_provider::Attributes;

use super::{Ownership, PublicAccessBlock, SETTING};
use crate::meta::UploadRecord;
use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, attribute};
use crate::s3::Parts;
use crate::s3::error::{Code, Failure, Result};
use crate::tokens::Identity;
use crate::tokens::acl::{ANONYMOUS, Acl, Permission};

/// Whether the sender may do everything with a bucket: root may, and its owner.
pub(crate) fn may_use(identity: &Identity, namespace: &Namespace) -> bool {
    identity.root || identity.id == namespace.bucket.owner
}

/// The list that holds for a bucket.
pub(crate) fn bucket_list(namespace: &Namespace) -> Acl {
    let owner = &namespace.bucket.owner;
    match namespace.setting(SETTING).filter(|_| !Ownership::is_enforced(namespace)) {
        Some(json) => listed(Some(&json), owner),
        None => Acl::private(owner),
    }
}

/// The list that holds for an object with these attributes.
pub(crate) fn object_list(namespace: &Namespace, attributes: &Attributes) -> Acl {
    let owner = object_owner(namespace, attributes);
    match attributes.get(attribute::ACL).filter(|_| !Ownership::is_enforced(namespace)) {
        Some(json) => listed(Some(json), owner),
        None => Acl::private(owner),
    }
}

/// What was stored, under the owner that holds; private when it cannot be read.
fn listed(json: Option<&str>, owner: &str) -> Acl {
    match json.and_then(Acl::from_json) {
        Some(acl) => Acl { owner: owner.to_owned(), ..acl },
        None => Acl::private(owner),
    }
}

/// The owner of an object with these attributes.
pub(crate) fn object_owner<'a>(namespace: &'a Namespace, attributes: &'a Attributes) -> &'a str {
    match attributes.get(attribute::OWNER) {
        Some(owner) if !Ownership::is_enforced(namespace) => owner,
        _ => &namespace.bucket.owner,
    }
}

/// The owner of the object that an upload will be.
pub(crate) fn upload_owner<'a>(namespace: &'a Namespace, upload: &'a UploadRecord) -> &'a str {
    match upload.attributes.get(attribute::OWNER) {
        Some(owner) if !Ownership::is_enforced(namespace) => owner,
        _ => &namespace.bucket.owner,
    }
}

fn allows(namespace: &Namespace, list: Acl, identity: &Identity, wanted: Permission) -> bool {
    let sender = (identity.id != ANONYMOUS).then_some(identity.id.as_str());
    if !PublicAccessBlock::of(namespace).ignore_public_acls {
        return list.allows(sender, wanted);
    }
    // Whoever does not sign is the public.
    sender.is_some() && list.without_public().allows(sender, wanted)
}

/// Whether the sender may do this to a bucket.
pub(crate) fn bucket_allows(namespace: &Namespace, identity: &Identity, wanted: Permission) -> bool {
    may_use(identity, namespace) || allows(namespace, bucket_list(namespace), identity, wanted)
}

/// Whether a bucket's list lets everybody in, or everybody who signs.
pub(crate) fn is_public_bucket(namespace: &Namespace) -> bool {
    bucket_list(namespace).is_public() && !PublicAccessBlock::of(namespace).ignore_public_acls
}

/// Whether the sender may do this to an object with these attributes. For the owner of bucket and object this is a look at one
/// attribute.
pub(crate) fn object_allows(namespace: &Namespace, identity: &Identity, attributes: &Attributes, wanted: Permission) -> bool {
    if identity.root || (identity.id == namespace.bucket.owner && attributes.get(attribute::OWNER).is_none()) {
        return true;
    }
    if identity.id == namespace.bucket.owner && Ownership::is_enforced(namespace) {
        return true;
    }
    allows(namespace, object_list(namespace, attributes), identity, wanted)
}

/// As [`object_allows`].
///
/// # Errors
/// `AccessDenied`.
pub(crate) fn check_object(
    namespace: &Namespace,
    identity: &Identity,
    attributes: &Attributes,
    wanted: Permission,
) -> Result<()> {
    if object_allows(namespace, identity, attributes, wanted) { Ok(()) } else { Err(Code::AccessDenied.into()) }
}

/// What may be told of a failure to read an object: whoever may not list the bucket does not learn that the object is missing, and
/// whoever may not read it learns nothing of it.
pub(crate) async fn told(
    parts: &Parts,
    namespace: &Namespace,
    identity: &Identity,
    key: &str,
    wanted: Permission,
    failure: Failure,
) -> Failure {
    // A server's trouble says nothing of the object.
    let trouble = |failure: &Failure| failure.code().status().is_server_error();
    if may_use(identity, namespace) || trouble(&failure) {
        return failure;
    }
    let allowed = match failure.code() {
        Code::NoSuchKey => bucket_allows(namespace, identity, Permission::Read),
        _ => match parts.objects.head(namespace, key, &ReadRequest::default()).await.map_err(Failure::from) {
            Ok(found) => object_allows(namespace, identity, &found.info.attributes, wanted),
            Err(failure) if trouble(&failure) => return failure,
            Err(_) => false,
        },
    };
    if allowed { failure } else { Code::AccessDenied.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::BucketRecord;
    use crate::mounts::MountTable;
    use crate::tokens::acl::{Canned, Grantee};

    fn namespace(settings: &[(&str, &str)]) -> Namespace {
        let bucket = BucketRecord { name: "b".into(), owner: "ann".into(), created: 0, location: String::new() };
        let settings = settings.iter().map(|(name, document)| ((*name).to_owned(), (*document).into())).collect();
        Namespace::new(bucket, MountTable::new(vec![]), settings)
    }

    fn identity(id: &str) -> Identity {
        Identity { id: id.into(), number: String::new(), name: id.into(), root: id == "root", active: true, created: 0 }
    }

    #[test]
    fn an_object_is_its_writers_unless_ownership_says_otherwise() {
        let bobs: Attributes = [(attribute::OWNER, "bob")].into_iter().collect();
        let open = namespace(&[]);
        assert_eq!(object_owner(&open, &bobs), "bob");
        assert_eq!(object_owner(&open, &Attributes::new()), "ann");
        let may = |namespace: &Namespace, who: &str| object_allows(namespace, &identity(who), &bobs, Permission::Read);
        assert!(may(&open, "bob") && may(&open, "root") && !may(&open, "ann") && !may(&open, ANONYMOUS));
        let enforced = namespace(&[(Ownership::SETTING, "BucketOwnerEnforced")]);
        assert_eq!(object_owner(&enforced, &bobs), "ann");
        assert!(!may(&enforced, "bob") && may(&enforced, "root") && may(&enforced, "ann"));
    }

    #[test]
    fn what_cannot_be_read_opens_nothing() {
        let public = Acl::canned(Canned::PublicRead, "ann", "ann").to_json();
        let may = |settings: &[(&str, &str)]| bucket_allows(&namespace(settings), &identity("bob"), Permission::Read);
        assert!(may(&[(SETTING, &public)]));
        assert!(!may(&[(SETTING, "{")]));
        assert!(!may(&[(SETTING, &public), (Ownership::SETTING, "?")]));
        assert!(!may(&[(SETTING, &public), (PublicAccessBlock::SETTING, "?")]));
        let broken: Attributes = [(attribute::ACL, "?")].into_iter().collect();
        assert!(!object_allows(&namespace(&[]), &identity("bob"), &broken, Permission::Read));
    }

    #[test]
    fn the_owner_of_a_stored_list_is_the_one_that_holds() {
        // As if a list had been copied from elsewhere.
        let foreign = Acl { owner: "eve".into(), grants: vec![] }.to_json();
        let attributes: Attributes = [(attribute::ACL, foreign.as_str())].into_iter().collect();
        assert!(!object_allows(&namespace(&[]), &identity("eve"), &attributes, Permission::WriteAcp));
        assert_eq!(object_list(&namespace(&[]), &attributes).owner, "ann");
    }

    #[test]
    fn grants_to_one_survive_when_public_ones_are_ignored() {
        let mut list = Acl::canned(Canned::PublicRead, "ann", "ann");
        list.grants.push(crate::tokens::acl::Grant { grantee: Grantee::Identity("bob".into()), permission: Permission::Read });
        let (list, block) = (list.to_json(), PublicAccessBlock { ignore_public_acls: true, ..Default::default() }.to_json());
        let namespace = namespace(&[(SETTING, &list), (PublicAccessBlock::SETTING, &block)]);
        let may = |who: &str| bucket_allows(&namespace, &identity(who), Permission::Read);
        assert!(may("bob") && !may("eve") && !may(ANONYMOUS) && may("ann"));
        assert!(!is_public_bucket(&namespace));
    }
}
