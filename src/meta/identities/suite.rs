//! What every store of identities must do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod policies;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::*;
use crate::meta::MetaStore;
use crate::meta::suite::{bucket, kind};
pub(crate) use policies::*;

/// One test per promise, over a fresh store each.
macro_rules! identity_suite {
    ($open:expr $(, $attribute:meta)?) => {
        $crate::meta::suite::tests_of!([$crate::meta::identities::suite] $open, [$(#[$attribute])?] =>
            accounts, accounts_that_hold_something_stay, account_documents,
            entities, entity_pages, entities_are_changed_from_what_they_are, entities_that_hold_something_stay, members,
            access_keys, access_keys_of_owners, many_keys_at_once, key_changes, credentials, sessions, sessions_are_renewed_once,
            a_revoked_session_is_not_renewed, revocations, revocations_reach_credentials, inline_policies, policies, policy_versions,
            attachments, applied_policies, secrets_are_resealed, changes_are_told, changes_come_in_order, what_ended_is_forgotten);
    };
}
pub(crate) use identity_suite;

type Store = Arc<dyn MetaStore>;

pub(crate) fn account(id: &str, name: &str) -> AccountRecord {
    AccountRecord {
        id: id.into(),
        number: format!("{id:0>12}"),
        name: name.into(),
        root: name == "root",
        active: true,
        created: 5,
    }
}

pub(crate) fn entity(id: &str, account: &str, kind: EntityKind, name: &str) -> EntityRecord {
    EntityRecord {
        id: id.into(),
        account: account.into(),
        kind,
        path: "/".into(),
        name: name.into(),
        description: "ü".into(),
        trust: (kind == EntityKind::Role).then(|| "{ }".to_owned()),
        max_session_secs: if kind == EntityKind::Role { 3600 } else { 0 },
        boundary: None,
        tags: BTreeMap::from([("team".to_owned(), "\"ü\" %_".to_owned())]),
        created: 1_700_000_000_123,
    }
}

pub(crate) fn key(access_key: &str, account: &str) -> AccessKeyRecord {
    AccessKeyRecord {
        access_key: access_key.into(),
        sealed_secret: vec![0, 255, 39, 0],
        account: account.into(),
        user: None,
        active: true,
        expires: None,
        service: None,
        created: 9,
        last_used: None,
    }
}

pub(crate) fn session(access_key: &str, token: u8, account: &str, entity: Option<&str>) -> SessionRecord {
    SessionRecord {
        access_key: access_key.into(),
        sealed_secret: vec![1, 0, 2],
        token_hash: [token; 32],
        account: account.into(),
        entity: entity.map(str::to_owned),
        kind: SessionKind::AssumedRole,
        name: "me@work".into(),
        policy: Some("{}".into()),
        policy_arns: vec!["arn:a".into(), "arn:b".into()],
        tags: BTreeMap::from([("k".into(), "v".into())]),
        context: BTreeMap::from([("sub".into(), "s".into())]),
        issued: 1000,
        expires: 2000,
    }
}

fn policy(id: &str, account: &str, name: &str) -> PolicyRecord {
    PolicyRecord {
        id: id.into(),
        account: account.into(),
        path: "/".into(),
        name: name.into(),
        description: "d".into(),
        default_version: 1,
        tags: BTreeMap::new(),
        created: 3,
        updated: 4,
    }
}

fn managed(id: &str) -> PolicyRef {
    PolicyRef { arn: format!("arn:{id}"), policy: Some(id.to_owned()) }
}

fn revocation(what: Revoked, before: i64, until: Option<i64>) -> RevocationRecord {
    RevocationRecord { what, before, until, reason: "left".into() }
}

/// An account `1` with a user, a group and a role.
async fn company(store: &Store) {
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_entity(&entity("U", "1", EntityKind::User, "Zoe")).await.unwrap();
    store.create_entity(&entity("G", "1", EntityKind::Group, "Devs")).await.unwrap();
    store.create_entity(&entity("R", "1", EntityKind::Role, "Reader")).await.unwrap();
}

fn named(entities: Vec<EntityRecord>) -> Vec<String> {
    entities.into_iter().map(|entity| entity.name).collect()
}

fn keys(keys: Vec<AccessKeyRecord>) -> Vec<String> {
    keys.into_iter().map(|key| key.access_key).collect()
}

async fn told(store: &Store, after: i64) -> Vec<(Topic, String)> {
    let changes = store.changes(after, 1000).await.unwrap();
    changes.into_iter().map(|change| (change.topic.unwrap(), change.subject)).collect()
}

// === accounts ===

pub(crate) async fn accounts(store: Store) {
    store.create_account(&account("2", "root")).await.unwrap();
    store.create_account(&account("1", "zoe")).await.unwrap();
    for taken in
        [account("3", "zoe"), account("1", "eve"), AccountRecord { number: account("1", "").number, ..account("4", "new") }]
    {
        assert_eq!(kind(store.create_account(&taken).await), "EntityExists");
    }
    assert_eq!(store.account_by_name("root").await.unwrap(), Some(account("2", "root")));
    assert_eq!(store.account_by_name("ROOT").await.unwrap(), None);
    assert_eq!(store.account_by_number("000000000001").await.unwrap(), Some(account("1", "zoe")));
    assert_eq!(store.account("1").await.unwrap(), Some(account("1", "zoe")));
    assert_eq!(store.account("zoe").await.unwrap(), None);
    assert_eq!(store.accounts("", 10).await.unwrap(), [account("2", "root"), account("1", "zoe")]);
    assert_eq!(store.accounts("root", 10).await.unwrap(), [account("1", "zoe")]);
    assert_eq!(store.accounts("", 1).await.unwrap(), [account("2", "root")]);

    assert!(!store.has_root_key().await.unwrap());
    store.create_access_key(&key("A", "1")).await.unwrap();
    store.create_access_key(&AccessKeyRecord { active: false, ..key("OFF", "2") }).await.unwrap();
    assert!(!store.has_root_key().await.unwrap());
    store.create_entity(&entity("U", "2", EntityKind::User, "u")).await.unwrap();
    store.create_access_key(&AccessKeyRecord { user: Some("U".into()), ..key("USER", "2") }).await.unwrap();
    assert!(!store.has_root_key().await.unwrap(), "a user of the root account is not the root");
    store.create_access_key(&key("B", "2")).await.unwrap();
    assert!(store.has_root_key().await.unwrap());

    assert!(store.set_account_active("1", false).await.unwrap());
    assert!(!store.set_account_active("9", false).await.unwrap());
    assert!(!store.account("1").await.unwrap().unwrap().active);
}

pub(crate) async fn accounts_that_hold_something_stay(store: Store) {
    for (n, name) in ["key", "user", "policy", "bucket", "session"].into_iter().enumerate() {
        store.create_account(&account(&n.to_string(), name)).await.unwrap();
    }
    store.create_access_key(&key("A", "0")).await.unwrap();
    store.create_entity(&entity("U", "1", EntityKind::User, "u")).await.unwrap();
    store.create_policy(&policy("P", "2", "p"), "{}").await.unwrap();
    store.create_bucket(&bucket("b", "3"), &[]).await.unwrap();
    for id in ["0", "1", "2", "3"] {
        assert_eq!(kind(store.delete_account(id).await), "DeleteConflict", "{id}");
    }
    store.create_session(&session("S", 1, "4", None)).await.unwrap();
    store.set_account_document("4", "oidc", "x", None, Some("y")).await.unwrap();
    assert!(store.delete_account("4").await.unwrap());
    assert!(!store.delete_account("4").await.unwrap());
    assert_eq!(store.session(&[1; 32]).await.unwrap(), None);
    store.delete_bucket("b").await.unwrap();
    store.delete_access_key("A").await.unwrap();
    store.delete_entity("U").await.unwrap();
    store.delete_policy("P").await.unwrap();
    for id in ["0", "1", "2", "3"] {
        assert!(store.delete_account(id).await.unwrap(), "{id}");
    }
}

pub(crate) async fn account_documents(store: Store) {
    assert!(!store.set_account_document("1", "oidc", "a", None, Some("x")).await.unwrap());
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_account(&account("2", "two")).await.unwrap();
    let set = async |kind: &str, name: &str, from: Option<&str>, to: Option<&str>| {
        store.set_account_document("1", kind, name, from, to).await.unwrap()
    };
    assert!(set("oidc", "b", None, Some("{\"b\":  1}")).await);
    assert!(set("oidc", "a", None, Some("x")).await);
    assert!(!set("oidc", "a", None, Some("w")).await, "there is one");
    assert!(!set("oidc", "a", Some("w"), Some("y")).await, "it is another");
    assert!(set("oidc", "a", Some("x"), Some("y")).await);
    assert!(
        !set("oidc", "a", Some("x"), Some("w")).await && !set("oidc", "a", Some("x"), None).await,
        "it was changed meanwhile"
    );
    assert!(set("alias", "a", None, Some("z")).await);
    let all = [("a".to_owned(), "y".to_owned()), ("b".to_owned(), "{\"b\":  1}".to_owned())];
    assert_eq!(store.account_documents("1", "oidc").await.unwrap(), all, "text stays as it was given");
    assert_eq!(store.account_documents("2", "oidc").await.unwrap(), []);
    assert!(set("oidc", "a", Some("y"), None).await);
    assert!(!set("oidc", "a", Some("y"), None).await && !set("oidc", "a", Some("y"), Some("z")).await, "it is gone");
    assert_eq!(store.account_documents("1", "oidc").await.unwrap().len(), 1);
}

// === users, groups, roles ===

pub(crate) async fn entities(store: Store) {
    assert_eq!(kind(store.create_entity(&entity("U", "1", EntityKind::User, "zoe")).await), "NoSuchEntity");
    company(&store).await;
    store.create_account(&account("2", "two")).await.unwrap();
    assert_eq!(kind(store.create_entity(&entity("X", "1", EntityKind::User, "zOE")).await), "EntityExists");
    assert_eq!(kind(store.create_entity(&entity("U", "1", EntityKind::User, "other")).await), "EntityExists");
    store.create_entity(&entity("X", "1", EntityKind::Group, "zoe")).await.unwrap();
    store.create_entity(&entity("Y", "2", EntityKind::User, "zoe")).await.unwrap();
    let zoe = entity("U", "1", EntityKind::User, "Zoe");
    assert_eq!(store.entity("U").await.unwrap(), Some(zoe.clone()));
    assert_eq!(store.entity_named("1", EntityKind::User, "ZOE").await.unwrap(), Some(zoe));
    assert_eq!(store.entity_named("2", EntityKind::Role, "zoe").await.unwrap(), None);
    assert_eq!(store.entity("R").await.unwrap(), Some(entity("R", "1", EntityKind::Role, "Reader")));
    let bounded = EntityRecord { boundary: Some(managed("none")), ..entity("Z", "1", EntityKind::User, "bounded") };
    assert_eq!(kind(store.create_entity(&bounded).await), "NoSuchEntity");
    let built_in = PolicyRef { arn: "arn:aws:iam::aws:policy/X".into(), policy: None };
    let bounded = EntityRecord { boundary: Some(built_in), ..bounded };
    store.create_entity(&bounded).await.unwrap();
    assert_eq!(store.entity("Z").await.unwrap(), Some(bounded));
}

pub(crate) async fn entity_pages(store: Store) {
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_account(&account("2", "two")).await.unwrap();
    for (n, (name, path)) in [("b", "/x/"), ("A", "/x/y/"), ("c", "/"), ("D", "/xy/")].into_iter().enumerate() {
        let user = EntityRecord { path: path.into(), ..entity(&n.to_string(), "1", EntityKind::User, name) };
        store.create_entity(&user).await.unwrap();
    }
    store.create_entity(&entity("X", "2", EntityKind::User, "other")).await.unwrap();
    let page =
        async |path: &str, after: &str, limit| named(store.entities("1", EntityKind::User, path, after, limit).await.unwrap());
    assert_eq!(page("/", "", 10).await, ["A", "b", "c", "D"]);
    assert_eq!(page("/", "B", 10).await, ["c", "D"]);
    assert_eq!(page("/", "", 2).await, ["A", "b"]);
    assert_eq!(page("/x/", "", 10).await, ["A", "b"]);
    assert_eq!(page("/x", "", 10).await, ["A", "b", "D"]);
    assert_eq!(page("/%", "", 10).await, [""; 0]);
    assert_eq!(store.entities("1", EntityKind::Role, "/", "", 10).await.unwrap(), []);
}

pub(crate) async fn entities_are_changed_from_what_they_are(store: Store) {
    company(&store).await;
    store.create_entity(&entity("V", "1", EntityKind::User, "Max")).await.unwrap();
    let zoe = store.entity("U").await.unwrap().unwrap();
    let eve = EntityRecord { name: "eve".into(), path: "/p/".into(), tags: BTreeMap::new(), ..zoe.clone() };
    assert!(store.update_entity(&zoe, &eve).await.unwrap());
    assert_eq!(store.entity("U").await.unwrap(), Some(eve.clone()));
    assert!(!store.update_entity(&zoe, &eve).await.unwrap(), "it is not zoe any more");
    let upper = EntityRecord { name: "EVE".into(), ..eve.clone() };
    assert!(store.update_entity(&eve, &upper).await.unwrap(), "its own name in another case");
    assert_eq!(kind(store.update_entity(&upper, &EntityRecord { name: "MAX".into(), ..eve.clone() }).await), "EntityExists");
    assert_eq!(
        kind(store.update_entity(&upper, &EntityRecord { boundary: Some(managed("no")), ..eve.clone() }).await),
        "NoSuchEntity"
    );
    assert!(
        kind(store.update_entity(&upper, &EntityRecord { id: "V".into(), ..eve.clone() }).await).starts_with("InvalidArgument")
    );
    assert_eq!(store.entity("U").await.unwrap(), Some(upper.clone()));
    // Of many who change the same, one is first.
    let changes = join_all((0..20).map(|n| {
        let (store, from) = (Arc::clone(&store), upper.clone());
        tokio::spawn(async move {
            let to = EntityRecord { description: n.to_string(), ..from.clone() };
            store.update_entity(&from, &to).await.unwrap()
        })
    }));
    assert_eq!(changes.await.into_iter().filter(|joined| *joined.as_ref().unwrap()).count(), 1);
}

pub(crate) async fn entities_that_hold_something_stay(store: Store) {
    company(&store).await;
    store.create_policy(&policy("P", "1", "p"), "{}").await.unwrap();
    let conflict = async |id: &str| assert_eq!(kind(store.delete_entity(id).await), "DeleteConflict");
    store.create_access_key(&AccessKeyRecord { user: Some("U".into()), ..key("A", "1") }).await.unwrap();
    conflict("U").await;
    store.delete_access_key("A").await.unwrap();
    store.add_member("G", "U").await.unwrap();
    conflict("U").await;
    conflict("G").await;
    store.remove_member("G", "U").await.unwrap();
    store.put_inline_policy("G", "p", "{}").await.unwrap();
    conflict("G").await;
    store.delete_inline_policy("G", "p").await.unwrap();
    store.attach_policy("R", &managed("P")).await.unwrap();
    conflict("R").await;
    store.detach_policy("R", "arn:P").await.unwrap();
    store.create_session(&session("S", 1, "1", Some("R"))).await.unwrap();
    for id in ["U", "G", "R"] {
        assert!(store.delete_entity(id).await.unwrap());
        assert!(!store.delete_entity(id).await.unwrap());
    }
    assert_eq!(store.credential("S").await.unwrap(), None, "its sessions end with it");
}

pub(crate) async fn members(store: Store) {
    company(&store).await;
    store.create_entity(&entity("V", "1", EntityKind::User, "anna")).await.unwrap();
    store.create_entity(&entity("H", "1", EntityKind::Group, "All")).await.unwrap();
    store.create_account(&account("2", "two")).await.unwrap();
    store.create_entity(&entity("X", "2", EntityKind::User, "stranger")).await.unwrap();
    for (group, user) in [("G", "U"), ("G", "V"), ("H", "U"), ("G", "U")] {
        store.add_member(group, user).await.unwrap();
    }
    for (group, user) in [("G", "X"), ("G", "R"), ("R", "U"), ("U", "G"), ("G", "none"), ("none", "U")] {
        assert_eq!(kind(store.add_member(group, user).await), "NoSuchEntity", "{group} {user}");
    }
    assert_eq!(named(store.members("G", "", 10).await.unwrap()), ["anna", "Zoe"]);
    assert_eq!(named(store.members("G", "ANNA", 10).await.unwrap()), ["Zoe"]);
    assert_eq!(named(store.groups_of("U", "", 10).await.unwrap()), ["All", "Devs"]);
    assert_eq!(named(store.groups_of("U", "", 1).await.unwrap()), ["All"]);
    assert!(store.remove_member("G", "U").await.unwrap());
    assert!(!store.remove_member("G", "U").await.unwrap());
}

// === keys ===

pub(crate) async fn access_keys(store: Store) {
    company(&store).await;
    store.create_account(&account("2", "two")).await.unwrap();
    let full = AccessKeyRecord {
        user: Some("U".into()),
        expires: Some(1_800_000_000_321),
        service: Some(ServiceAccount { name: "backup".into(), description: "ü".into(), policy: Some("{}".into()) }),
        last_used: Some(7),
        ..key("FULL", "1")
    };
    store.create_access_key(&full).await.unwrap();
    store.create_access_key(&key("ON", "1")).await.unwrap();
    assert_eq!(store.access_key("FULL").await.unwrap(), Some(full));
    assert_eq!(store.access_key("on").await.unwrap(), None);
    assert_eq!(kind(store.create_access_key(&key("ON", "1")).await), "EntityExists");
    assert_eq!(kind(store.create_access_key(&key("NEW", "nobody")).await), "NoSuchEntity");
    for (account, user) in [("1", "R"), ("1", "none"), ("2", "U")] {
        let stray = AccessKeyRecord { user: Some(user.into()), ..key("NEW", account) };
        assert_eq!(kind(store.create_access_key(&stray).await), "NoSuchEntity", "{account} {user}");
    }
    store.create_session(&session("TEMP", 1, "1", None)).await.unwrap();
    assert_eq!(kind(store.create_access_key(&key("TEMP", "1")).await), "EntityExists");
    assert_eq!(kind(store.create_session(&session("ON", 2, "1", None)).await), "EntityExists");
    assert!(store.delete_access_key("ON").await.unwrap());
    assert!(!store.delete_access_key("ON").await.unwrap());
    assert_eq!(store.access_key("ON").await.unwrap(), None);
    store.revoke(&revocation(Revoked::Key("GONE".into()), 0, None)).await.unwrap();
    assert_eq!(kind(store.create_access_key(&key("GONE", "1")).await), "EntityExists", "a revoked key does not come back");
}

pub(crate) async fn access_keys_of_owners(store: Store) {
    company(&store).await;
    store.create_account(&account("2", "two")).await.unwrap();
    for name in ["b", "A", "c"] {
        store.create_access_key(&key(name, "1")).await.unwrap();
    }
    store.create_access_key(&AccessKeyRecord { user: Some("U".into()), ..key("u", "1") }).await.unwrap();
    store.create_access_key(&key("x", "2")).await.unwrap();
    assert_eq!(keys(store.access_keys("", 10).await.unwrap()), ["A", "b", "c", "u", "x"]);
    assert_eq!(keys(store.access_keys("b", 2).await.unwrap()), ["c", "u"]);
    assert_eq!(keys(store.access_keys_of("1", None, "", 10).await.unwrap()), ["A", "b", "c"]);
    assert_eq!(keys(store.access_keys_of("1", None, "A", 1).await.unwrap()), ["b"]);
    assert_eq!(keys(store.access_keys_of("1", Some("U"), "", 10).await.unwrap()), ["u"]);
    assert_eq!(keys(store.access_keys_of("2", Some("U"), "", 10).await.unwrap()), [""; 0]);
}

pub(crate) async fn many_keys_at_once(store: Store) {
    store.create_account(&account("1", "one")).await.unwrap();
    let many: Vec<_> = (0..100).map(|n| key(&format!("K{n:03}"), "1")).collect();
    store.create_access_keys(&many).await.unwrap();
    assert_eq!(store.access_keys("", 1000).await.unwrap(), many);
    let some: Vec<_> = (90..110).map(|n| key(&format!("L{n:03}"), if n == 105 { "none" } else { "1" })).collect();
    assert_eq!(kind(store.create_access_keys(&some).await), "NoSuchEntity");
    assert_eq!(store.access_keys("", 1000).await.unwrap().len(), 100, "all or none");
}

pub(crate) async fn key_changes(store: Store) {
    company(&store).await;
    store.create_access_key(&key("A", "1")).await.unwrap();
    let changed = AccessKeyRecord { active: false, expires: Some(77), service: Some(ServiceAccount::default()), ..key("A", "1") };
    assert!(
        store.update_access_key(&AccessKeyRecord { created: 1234, sealed_secret: vec![1], ..changed.clone() }).await.unwrap()
    );
    assert_eq!(store.access_key("A").await.unwrap(), Some(changed));
    assert!(!store.update_access_key(&key("B", "1")).await.unwrap());
    let before = store.last_change().await.unwrap();
    for at in [50, 70, 60] {
        store.note_key_use(&[("A".into(), at), ("none".into(), 5)]).await.unwrap();
    }
    assert_eq!(store.access_key("A").await.unwrap().unwrap().last_used, Some(70));
    assert_eq!(store.last_change().await.unwrap(), before);
}

// === credentials and sessions ===

pub(crate) async fn credentials(store: Store) {
    company(&store).await;
    assert_eq!(store.credential("A").await.unwrap(), None);
    let (own, users) = (key("A", "1"), AccessKeyRecord { user: Some("U".into()), ..key("B", "1") });
    store.create_access_keys(&[own.clone(), users.clone()]).await.unwrap();
    let temporary = session("S", 1, "1", Some("R"));
    store.create_session(&temporary).await.unwrap();
    let one = |key, entity| Some(CredentialRecord { key, account: account("1", "one"), entity, revocations: vec![] });
    assert_eq!(store.credential("A").await.unwrap(), one(KeyRecord::Lasting(own), None));
    let zoe = entity("U", "1", EntityKind::User, "Zoe");
    assert_eq!(store.credential("B").await.unwrap(), one(KeyRecord::Lasting(users), Some(zoe)));
    let reader = entity("R", "1", EntityKind::Role, "Reader");
    assert_eq!(store.credential("S").await.unwrap(), one(KeyRecord::Temporary(temporary), Some(reader)));
}

pub(crate) async fn sessions(store: Store) {
    company(&store).await;
    store.create_account(&account("2", "two")).await.unwrap();
    let full = session("S", 1, "1", Some("R"));
    store.create_session(&full).await.unwrap();
    assert_eq!(store.session(&[1; 32]).await.unwrap(), Some(full.clone()));
    assert_eq!(store.session(&[2; 32]).await.unwrap(), None);
    assert_eq!(kind(store.create_session(&full).await), "EntityExists");
    assert_eq!(kind(store.create_session(&SessionRecord { access_key: "T".into(), ..full.clone() }).await), "EntityExists");
    for (account, entity) in [("none", None), ("1", Some("none")), ("2", Some("R")), ("1", Some("G"))] {
        assert_eq!(kind(store.create_session(&session("T", 2, account, entity)).await), "NoSuchEntity", "{account} {entity:?}");
    }
    let bare = SessionRecord { policy: None, policy_arns: vec![], ..session("T", 2, "1", None) };
    store.create_session(&bare).await.unwrap();
    assert_eq!(store.session(&[2; 32]).await.unwrap(), Some(bare));
}

pub(crate) async fn sessions_are_renewed_once(store: Store) {
    company(&store).await;
    store.create_session(&session("S", 1, "1", Some("R"))).await.unwrap();
    let next = session("T", 2, "1", Some("R"));
    assert!(!store.renew_session(&[9; 32], 0, &next).await.unwrap(), "no such token");
    assert!(!store.renew_session(&[1; 32], 2001, &next).await.unwrap(), "ended too long ago");
    let renewals = join_all((0..10).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let next = session(&format!("T{n}"), 10 + n, "1", Some("R"));
            store.renew_session(&[1; 32], 2000, &next).await.unwrap()
        })
    }));
    assert_eq!(renewals.await.into_iter().filter(|joined| *joined.as_ref().unwrap()).count(), 1);
    assert_eq!(store.credential("S").await.unwrap(), None, "the old one is over");
    assert_eq!(told(&store, 0).await, [(Topic::Key, "S".to_owned())]);
}

pub(crate) async fn a_revoked_session_is_not_renewed(store: Store) {
    company(&store).await;
    store.create_account(&account("2", "two")).await.unwrap();
    for (n, what, account, entity, before) in [
        (1, Revoked::Key("S1".into()), "1", None, 0),
        (2, Revoked::Token([2; 32]), "1", None, 0),
        (3, Revoked::Sessions("R".into()), "1", Some("R"), 1001),
        (4, Revoked::Account("2".into()), "2", None, 1001),
    ] {
        store.create_session(&session(&format!("S{n}"), n, account, entity)).await.unwrap();
        let next = session("T", 100, account, entity);
        if before > 0 {
            store.revoke(&revocation(what.clone(), before - 1, None)).await.unwrap();
            assert!(store.renew_session(&[n; 32], 0, &next).await.unwrap(), "{what:?}: it began after that");
            assert!(store.renew_session(&[100; 32], 0, &session(&format!("S{n}"), n, account, entity)).await.unwrap());
        }
        store.revoke(&revocation(what.clone(), before, None)).await.unwrap();
        assert!(!store.renew_session(&[n; 32], 0, &next).await.unwrap(), "{what:?}");
    }
}

pub(crate) async fn revocations(store: Store) {
    let a = revocation(Revoked::Presigned("A".into()), 10, Some(20));
    store.revoke(&a).await.unwrap();
    store.revoke(&revocation(Revoked::Presigned("A".into()), 5, Some(15))).await.unwrap();
    assert_eq!(store.revocations("", 10).await.unwrap(), [a], "nothing is taken back");
    store.revoke(&revocation(Revoked::Presigned("A".into()), 15, Some(25))).await.unwrap();
    let all = [
        revocation(Revoked::Account("1".into()), 1, None),
        revocation(Revoked::Presigned("A".into()), 15, Some(25)),
        revocation(Revoked::Token([0xab; 32]), 1, Some(1_800_000_000_000)),
    ];
    store.revoke(&all[0]).await.unwrap();
    store.revoke(&all[2]).await.unwrap();
    assert_eq!(store.revocations("", 10).await.unwrap(), all);
    assert_eq!(store.revocations(&all[0].what.to_text(), 1).await.unwrap(), all[1..2]);
    store.revoke(&revocation(Revoked::Presigned("A".into()), 0, None)).await.unwrap();
    assert_eq!(store.revocations("", 10).await.unwrap()[1].until, None, "for ever is later than any moment");
    store.revoke(&revocation(Revoked::Presigned("A".into()), 0, Some(5))).await.unwrap();
    assert_eq!(store.revocations("", 10).await.unwrap()[1].until, None);
}

pub(crate) async fn revocations_reach_credentials(store: Store) {
    company(&store).await;
    store.create_access_key(&AccessKeyRecord { user: Some("U".into()), ..key("B", "1") }).await.unwrap();
    store.create_session(&session("S", 1, "1", Some("R"))).await.unwrap();
    let lasting =
        [Revoked::Account("1".into()), Revoked::Key("B".into()), Revoked::Presigned("B".into()), Revoked::Sessions("U".into())];
    let temporary = [Revoked::Key("S".into()), Revoked::Token([1; 32]), Revoked::Sessions("R".into())];
    for what in lasting.iter().chain(&temporary).chain(&[Revoked::Key("X".into()), Revoked::Account("2".into())]) {
        store.revoke(&revocation(what.clone(), 1, None)).await.unwrap();
    }
    let found = async |key: &str| -> Vec<Revoked> {
        store.credential(key).await.unwrap().unwrap().revocations.into_iter().map(|revocation| revocation.what).collect()
    };
    assert_eq!(found("B").await, lasting);
    let [key, token, sessions] = temporary;
    assert_eq!(found("S").await, [lasting[0].clone(), key, sessions, token]);
}

// === the master key ===

pub(crate) async fn secrets_are_resealed(store: Store) {
    store.create_account(&account("1", "one")).await.unwrap();
    store.create_access_keys(&[key("B", "1"), key("A", "1")]).await.unwrap();
    store.create_session(&session("S", 1, "1", None)).await.unwrap();
    let secret = |name: &str, secret: &[u8]| (name.to_owned(), secret.to_vec());
    let all = [secret("A", &[0, 255, 39, 0]), secret("B", &[0, 255, 39, 0]), secret("S", &[1, 0, 2])];
    assert_eq!(store.sealed_secrets("", 10).await.unwrap(), all);
    assert_eq!(store.sealed_secrets("A", 1).await.unwrap(), all[1..2]);
    let before = store.last_change().await.unwrap();
    assert!(store.reseal("A", &[0, 255, 39, 0], &[7]).await.unwrap());
    assert!(!store.reseal("A", &[0, 255, 39, 0], &[8]).await.unwrap(), "it was changed meanwhile");
    assert!(store.reseal("S", &[1, 0, 2], &[9]).await.unwrap());
    assert!(!store.reseal("none", &[1], &[2]).await.unwrap());
    assert_eq!(store.sealed_secrets("", 10).await.unwrap(), [secret("A", &[7]), all[1].clone(), secret("S", &[9])]);
    assert_eq!(store.last_change().await.unwrap(), before);
}

// === changes ===

pub(crate) async fn changes_are_told(store: Store) {
    assert_eq!(store.last_change().await.unwrap(), 0);
    company(&store).await;
    store.create_access_keys(&[key("A", "1")]).await.unwrap();
    store.create_policy(&policy("P", "1", "p"), "{}").await.unwrap();
    assert_eq!(store.last_change().await.unwrap(), 0, "what is new is in no cache");
    let zoe = store.entity("U").await.unwrap().unwrap();
    let tagged = EntityRecord { tags: BTreeMap::new(), ..zoe.clone() };
    macro_rules! tells {
        ($call:expr, $topic:ident, $subject:expr) => {{
            let before = store.last_change().await.unwrap();
            let _ = $call.await.unwrap();
            assert_eq!(told(&store, before).await, [(Topic::$topic, $subject.to_owned())], "{}", stringify!($call));
        }};
    }
    tells!(store.update_entity(&zoe, &tagged), Entity, "U");
    tells!(store.add_member("G", "U"), Entity, "U");
    tells!(store.remove_member("G", "U"), Entity, "U");
    tells!(store.put_inline_policy("G", "p", "{}"), Entity, "G");
    tells!(store.delete_inline_policy("G", "p"), Entity, "G");
    tells!(store.attach_policy("R", &managed("P")), Entity, "R");
    tells!(store.detach_policy("R", "arn:P"), Entity, "R");
    tells!(store.add_policy_version("P", "{}", 1, true, 5), Policy, "P");
    tells!(store.set_default_policy_version("P", 1, 2), Policy, "P");
    tells!(store.delete_policy("P"), Policy, "P");
    tells!(store.update_access_key(&key("A", "1")), Key, "A");
    tells!(store.delete_access_key("A"), Key, "A");
    tells!(store.delete_entity("R"), Entity, "R");
    tells!(store.set_account_document("1", "oidc", "x", None, Some("y")), Document, "1");
    tells!(store.revoke(&revocation(Revoked::Key("A".into()), 1, None)), Revocation, "key:A");
    tells!(store.set_account_active("1", false), Account, "1");
    let before = store.last_change().await.unwrap();
    store.delete_access_key("none").await.unwrap();
    store.delete_entity("none").await.unwrap();
    assert_eq!(store.last_change().await.unwrap(), before, "what changed nothing is not told");
    let page = store.changes(1, 2).await.unwrap();
    assert_eq!(page.iter().map(|change| change.number).collect::<Vec<_>>(), [2, 3]);
}

/// One who reads on from the last number that it saw misses nothing, however many write at once.
pub(crate) async fn changes_come_in_order(store: Store) {
    const WRITERS: usize = 8;
    const EACH: usize = 12;
    let writers = join_all((0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..EACH {
                let what = Revoked::Key(format!("{writer}-{n}"));
                store.revoke(&revocation(what, 1, None)).await.unwrap();
            }
        })
    }));
    let reader = async {
        let (mut last, mut seen) = (0, 0);
        while seen < WRITERS * EACH {
            for change in store.changes(last, 1000).await.unwrap() {
                assert!(change.number > last);
                (last, seen) = (change.number, seen + 1);
            }
            store.changed(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), async { tokio::join!(writers, reader) }).await.unwrap();
}

pub(crate) async fn what_ended_is_forgotten(store: Store) {
    company(&store).await;
    for (n, expires) in [(1, 100), (2, 200)] {
        store.create_session(&SessionRecord { expires, ..session(&format!("S{n}"), n, "1", None) }).await.unwrap();
    }
    for (name, until) in [("a", Some(100)), ("b", Some(200)), ("c", None)] {
        store.revoke(&revocation(Revoked::Key(name.into()), 1, until)).await.unwrap();
    }
    assert_eq!(store.forget_ended(150).await.unwrap(), 2);
    assert_eq!(store.forget_ended(150).await.unwrap(), 0);
    assert_eq!(store.session(&[1; 32]).await.unwrap(), None);
    assert!(store.session(&[2; 32]).await.unwrap().is_some());
    assert_eq!(store.revocations("", 10).await.unwrap().len(), 2);
    assert_eq!(told(&store, 0).await.len(), 3, "changes of today are kept");
}
