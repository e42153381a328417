//! Policies: inline, managed, attached.

use std::collections::BTreeMap;

use super::*;

pub(crate) async fn inline_policies(store: Store) {
    company(&store).await;
    assert_eq!(kind(store.put_inline_policy("none", "p", "{}").await), "NoSuchEntity");
    store.put_inline_policy("U", "b", "{ \"b\":1}").await.unwrap();
    store.put_inline_policy("U", "a", "{}").await.unwrap();
    store.put_inline_policy("U", "a", "{}\n").await.unwrap();
    let all = [("a".to_owned(), "{}\n".to_owned()), ("b".to_owned(), "{ \"b\":1}".to_owned())];
    assert_eq!(store.inline_policies("U").await.unwrap(), all);
    assert_eq!(store.inline_policies("G").await.unwrap(), []);
    assert!(store.delete_inline_policy("U", "a").await.unwrap());
    assert!(!store.delete_inline_policy("U", "a").await.unwrap());
}

pub(crate) async fn policies(store: Store) {
    assert_eq!(kind(store.create_policy(&policy("P", "1", "p"), "{}").await), "NoSuchEntity");
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_account(&account("2", "two")).await.unwrap();
    let read = PolicyRecord { path: "/x/".into(), ..policy("P", "1", "Read") };
    store.create_policy(&PolicyRecord { default_version: 9, ..read.clone() }, "{}").await.unwrap();
    assert_eq!(kind(store.create_policy(&policy("Q", "1", "READ"), "{}").await), "EntityExists");
    assert_eq!(kind(store.create_policy(&policy("P", "1", "q"), "{}").await), "EntityExists");
    store.create_policy(&policy("Q", "2", "read"), "{}").await.unwrap();
    store.create_policy(&policy("R", "1", "all"), "{}").await.unwrap();
    assert_eq!(store.policy("P").await.unwrap(), Some(read.clone()));
    assert_eq!(store.policy_named("1", "reAD").await.unwrap(), Some(read.clone()));
    assert_eq!(store.policies("1", "/", "", 10).await.unwrap(), [policy("R", "1", "all"), read.clone()]);
    assert_eq!(store.policies("1", "/x", "", 10).await.unwrap(), std::slice::from_ref(&read));
    assert_eq!(store.policies("1", "/", "ALL", 10).await.unwrap(), std::slice::from_ref(&read));
    assert_eq!(store.policies("1", "/", "", 1).await.unwrap(), [policy("R", "1", "all")]);
    let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    assert!(store.set_policy_tags("P", &tags).await.unwrap());
    assert!(!store.set_policy_tags("none", &tags).await.unwrap());
    assert_eq!(store.policy("P").await.unwrap(), Some(PolicyRecord { tags, ..read }));
    assert!(store.delete_policy("P").await.unwrap());
    assert!(!store.delete_policy("P").await.unwrap());
    assert_eq!(store.policy_versions("P").await.unwrap(), []);
}

pub(crate) async fn policy_versions(store: Store) {
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_policy(&policy("P", "1", "p"), "{1}").await.unwrap();
    assert_eq!(kind(store.add_policy_version("none", "{}", 5, true, 5).await), "NoSuchEntity");
    assert_eq!(store.add_policy_version("P", "{2}", 5, false, 3).await.unwrap(), 2);
    assert_eq!(store.policy("P").await.unwrap().unwrap().default_version, 1);
    assert_eq!(store.add_policy_version("P", "{3}", 6, true, 3).await.unwrap(), 3);
    let found = store.policy("P").await.unwrap().unwrap();
    assert_eq!((found.default_version, found.updated), (3, 6));
    assert_eq!(kind(store.add_policy_version("P", "{}", 7, true, 3).await), "LimitExceeded");
    assert_eq!(kind(store.delete_policy_version("P", 3).await), "DeleteConflict");
    assert!(store.delete_policy_version("P", 2).await.unwrap());
    assert!(!store.delete_policy_version("P", 2).await.unwrap());
    assert_eq!(store.add_policy_version("P", "{4}", 7, false, 3).await.unwrap(), 4, "a number is given once");
    let version = |version, document: &str, created| PolicyVersionRecord { version, document: document.into(), created };
    let all = [version(4, "{4}", 7), version(3, "{3}", 6), version(1, "{1}", 3)];
    assert_eq!(store.policy_versions("P").await.unwrap(), all);
    assert!(store.set_default_policy_version("P", 1, 8).await.unwrap());
    assert!(!store.set_default_policy_version("P", 2, 9).await.unwrap());
    let found = store.policy("P").await.unwrap().unwrap();
    assert_eq!((found.default_version, found.updated), (1, 8));
}

pub(crate) async fn attachments(store: Store) {
    company(&store).await;
    store.create_policy(&policy("P", "1", "p"), "{}").await.unwrap();
    let built_in = PolicyRef { arn: "arn:built-in".into(), policy: None };
    store.attach_policy("U", &built_in).await.unwrap();
    for _ in 0..2 {
        store.attach_policy("U", &managed("P")).await.unwrap();
    }
    assert_eq!(kind(store.attach_policy("none", &managed("P")).await), "NoSuchEntity");
    assert_eq!(kind(store.attach_policy("U", &managed("none")).await), "NoSuchEntity");
    assert_eq!(store.attached_policies("U").await.unwrap(), [managed("P"), built_in]);
    assert_eq!(kind(store.delete_policy("P").await), "DeleteConflict");
    let role = store.entity("R").await.unwrap().unwrap();
    let bounded = EntityRecord { boundary: Some(managed("P")), ..role.clone() };
    assert!(store.update_entity(&role, &bounded).await.unwrap());
    store.attach_policy("R", &managed("P")).await.unwrap();
    let users = async |after: &str, limit| -> Vec<(String, PolicyUse)> {
        let users = store.policy_users("1", "arn:P", after, limit).await.unwrap();
        users.into_iter().map(|(entity, usage)| (entity.id, usage)).collect()
    };
    let all = [("R", PolicyUse::Attached), ("R", PolicyUse::Boundary), ("U", PolicyUse::Attached)];
    let all = all.map(|(id, usage)| (id.to_owned(), usage));
    assert_eq!(users("", 10).await, all);
    assert_eq!(users("R", 10).await, all[2..]);
    assert_eq!(users("", 1).await, all[..1]);
    assert_eq!(store.policy_users("2", "arn:P", "", 10).await.unwrap(), []);
    assert!(store.detach_policy("U", "arn:P").await.unwrap());
    assert!(!store.detach_policy("U", "arn:P").await.unwrap());
    assert!(store.detach_policy("R", "arn:P").await.unwrap());
    assert_eq!(kind(store.delete_policy("P").await), "DeleteConflict", "a boundary still");
    assert!(store.update_entity(&bounded, &role).await.unwrap());
    assert!(store.delete_policy("P").await.unwrap());
}

pub(crate) async fn applied_policies(store: Store) {
    company(&store).await;
    store.create_policy(&policy("P", "1", "p"), "{1}").await.unwrap();
    store.create_policy(&policy("B", "1", "b"), "{b}").await.unwrap();
    store.add_policy_version("P", "{2}", 5, true, 5).await.unwrap();
    store.add_policy_version("P", "{3}", 6, false, 5).await.unwrap();
    store.add_member("G", "U").await.unwrap();
    store.put_inline_policy("U", "own", "{own}").await.unwrap();
    store.put_inline_policy("G", "shared", "{shared}").await.unwrap();
    store.put_inline_policy("R", "others", "{}").await.unwrap();
    store.attach_policy("G", &managed("P")).await.unwrap();
    store.attach_policy("U", &PolicyRef { arn: "arn:built-in".into(), policy: None }).await.unwrap();
    let zoe = store.entity("U").await.unwrap().unwrap();
    assert!(store.update_entity(&zoe, &EntityRecord { boundary: Some(managed("B")), ..zoe.clone() }).await.unwrap());
    let applied = |holder: &str, source, usage, document: Option<&str>| AppliedPolicy {
        holder: holder.into(),
        source,
        usage,
        document: document.map(str::to_owned),
    };
    let inline = |name: &str| PolicySource::Inline(name.into());
    let arn = |name: &str| PolicySource::Managed(format!("arn:{name}"));
    assert_eq!(
        store.applied_policies("U").await.unwrap(),
        [
            applied("G", inline("shared"), PolicyUse::Attached, Some("{shared}")),
            applied("G", arn("P"), PolicyUse::Attached, Some("{2}")),
            applied("U", inline("own"), PolicyUse::Attached, Some("{own}")),
            applied("U", arn("B"), PolicyUse::Boundary, Some("{b}")),
            applied("U", arn("built-in"), PolicyUse::Attached, None),
        ]
    );
    assert_eq!(store.applied_policies("none").await.unwrap(), []);
}
