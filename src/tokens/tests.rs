//! The layer over a real store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tempfile::TempDir;

use super::cache::Limits;
use super::*;
use crate::error::Result;
use crate::meta::suite::kind;
use crate::meta::{AccessKeyRecord, MetaStore, Revoked, SqliteStore};

const MASTER: [u8; 32] = [7; 32];
const SECRET: &str = "correct-horse-battery-staple";

async fn store() -> Arc<dyn MetaStore> {
    Arc::new(SqliteStore::open_in_memory().await.unwrap())
}

async fn layer() -> (Arc<Tokens>, Arc<dyn MetaStore>) {
    let store = store().await;
    (Arc::new(Tokens::open(Arc::clone(&store), MASTER).await.unwrap()), store)
}

async fn create(tokens: &Tokens, name: &str, access_key: &str) -> Result<Credential> {
    tokens.create_key(name, false, Some(access_key.into()), Some(Secret::new(SECRET.into()))).await
}

#[tokio::test]
async fn a_key_that_was_created_is_found() {
    let (tokens, _) = layer().await;
    let created = create(&tokens, "zoe", "ZOE").await.unwrap();
    assert_eq!((&*created.access_key, created.secret.expose()), ("ZOE", SECRET));
    assert_eq!((created.identity.name.as_str(), created.identity.root), ("zoe", false));
    assert_eq!(created.identity.id.len(), 64);
    assert!(created.identity.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    for _ in 0..2 {
        let found = tokens.credential("ZOE").await.unwrap().unwrap();
        assert_eq!((&*found.access_key, found.secret.expose()), ("ZOE", SECRET));
        assert_eq!(found.identity, created.identity);
    }
    assert_eq!((tokens.cache_counts().hits, tokens.cache_counts().misses), (1, 1));
    assert!(tokens.credential("zoe").await.unwrap().is_none());
}

#[tokio::test]
async fn generated_halves() {
    let (tokens, _) = layer().await;
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let created = tokens.create_key("me", false, None, None).await.unwrap();
        assert!(created.access_key.len() == 20 && created.access_key.starts_with("SL"));
        assert!(created.access_key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
        assert_eq!(created.secret.expose().len(), 40);
        assert!(created.secret.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(tokens.credential(&created.access_key).await.unwrap().unwrap().secret.matches(created.secret.expose()));
        assert!(seen.insert(created.access_key.to_string()) && seen.insert(created.secret.expose().to_owned()));
    }
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused() {
    let (tokens, store) = layer().await;
    let long = "x".repeat(129);
    for (name, access_key, secret) in [
        ("me", "ab", SECRET),
        ("me", &long, SECRET),
        ("me", "a b", SECRET),
        ("me", "a/b", SECRET),
        ("me", "äöü", SECRET),
        ("me", "abc", "1234567"),
        ("me", "abc", &long),
        ("me", "abc", "1234567\n"),
        ("me", "abc", "1234567ä"),
        ("", "abc", SECRET),
        (&long, "abc", SECRET),
        ("m\ne", "abc", SECRET),
    ] {
        let refused = tokens.create_key(name, false, Some(access_key.into()), Some(Secret::new(secret.into()))).await;
        let message = kind(refused);
        assert!(message.starts_with("InvalidArgument") && !message.contains(secret), "{name} {access_key} {secret}: {message}");
        assert!(tokens.credential(access_key).await.unwrap().is_none());
    }
    assert_eq!(store.accounts("", 1000).await.unwrap(), []);
    let (longest, secret) = ("x".repeat(128), "~ !\"'\\%".repeat(2));
    for (access_key, secret) in [("a.b", "12345678"), (longest.as_str(), longest.as_str()), ("_-9", &secret)] {
        tokens.create_key("me", false, Some(access_key.into()), Some(Secret::new(secret.into()))).await.unwrap();
        assert!(tokens.credential(access_key).await.unwrap().unwrap().secret.matches(secret));
    }
}

#[tokio::test]
async fn an_identity_may_have_several_keys() {
    let (tokens, store) = layer().await;
    let first = create(&tokens, "me", "AAA").await.unwrap();
    let second = create(&tokens, "me", "BBB").await.unwrap();
    assert_eq!(first.identity, second.identity);
    assert_eq!(store.accounts("", 1000).await.unwrap().len(), 1);

    assert_eq!(kind(tokens.create_key("me", true, None, None).await), "EntityExists");
    assert_eq!(kind(create(&tokens, "other", "AAA").await), "EntityExists");
    assert_eq!(store.accounts("", 1000).await.unwrap().len(), 1, "a key that is taken leaves no identity behind");
    assert!(tokens.credential("AAA").await.unwrap().unwrap().identity.name == "me");

    let keys = tokens.keys().await.unwrap();
    let shown: Vec<_> = keys.iter().map(|(key, name)| (key.access_key.as_str(), name.as_str())).collect();
    assert_eq!(shown, [("AAA", "me"), ("BBB", "me")]);
    assert!(keys.iter().all(|(key, _)| key.sealed_secret.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_identity_for_all_who_create_it() {
    let (tokens, store) = layer().await;
    let created = (0..50).map(|n| {
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move { create(&tokens, "me", &format!("KEY{}", n / 2)).await })
    });
    let (won, lost): (Vec<_>, Vec<_>) =
        join_all(created).await.into_iter().map(|joined| joined.unwrap()).partition(Result::is_ok);
    assert_eq!(won.len(), 25);
    assert!(lost.into_iter().all(|outcome| kind(outcome) == "EntityExists"));
    assert_eq!(store.accounts("", 1000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_first_start_has_no_root() {
    let (tokens, store) = layer().await;
    assert!(!tokens.has_root().await.unwrap());
    create(&tokens, "me", "AAA").await.unwrap();
    assert!(!tokens.has_root().await.unwrap());
    let root = tokens.create_key("root", true, None, None).await.unwrap();
    assert!(root.identity.root && tokens.has_root().await.unwrap());
    assert!(tokens.delete_key(&root.access_key).await.unwrap());
    assert!(!tokens.has_root().await.unwrap(), "a root without a key cannot come in");
    let off = AccessKeyRecord { active: false, ..record("OFF", &root.identity.id, vec![]) };
    store.create_access_key(&off).await.unwrap();
    assert!(!tokens.has_root().await.unwrap());
}

fn record(access_key: &str, identity: &str, sealed_secret: Vec<u8>) -> AccessKeyRecord {
    AccessKeyRecord { sealed_secret, ..crate::meta::identities::suite::key(access_key, identity) }
}

#[tokio::test]
async fn a_deleted_key_is_refused_at_once() {
    let (tokens, _) = layer().await;
    create(&tokens, "me", "AAA").await.unwrap();
    assert!(tokens.credential("AAA").await.unwrap().is_some());
    assert!(tokens.delete_key("AAA").await.unwrap());
    assert!(tokens.credential("AAA").await.unwrap().is_none());
    assert!(!tokens.delete_key("AAA").await.unwrap());
    tokens.create_key("me", false, Some("AAA".into()), Some(Secret::new("another secret".into()))).await.unwrap();
    assert!(tokens.credential("AAA").await.unwrap().unwrap().secret.matches("another secret"), "usable at once, and the new one");
}

#[tokio::test]
async fn an_inactive_key_is_unknown() {
    let (tokens, store) = layer().await;
    let me = create(&tokens, "me", "AAA").await.unwrap().identity;
    let off = AccessKeyRecord { active: false, ..record("OFF", &me.id, vec![1, 2, 3]) };
    store.create_access_key(&off).await.unwrap();
    assert!(tokens.credential("OFF").await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_from_another_process_is_known_soon() {
    let store = store().await;
    let limits = Limits { unknown_for: Duration::from_millis(400), ..Limits::default() };
    let ours = Tokens::open_with(Arc::clone(&store), MASTER, None, limits, &Settings::default()).await.unwrap();
    let theirs = Tokens::open(store, MASTER).await.unwrap();
    assert!(ours.credential("AAA").await.unwrap().is_none());
    create(&theirs, "me", "AAA").await.unwrap();
    assert!(ours.credential("AAA").await.unwrap().is_none(), "remembered as unknown");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(ours.credential("AAA").await.unwrap().is_some());
}

#[tokio::test]
async fn a_wrong_master_key_is_noticed_when_opening() {
    let store = store().await;
    create(&Tokens::open(Arc::clone(&store), MASTER).await.unwrap(), "me", "AAA").await.unwrap();
    let refused = Tokens::open(Arc::clone(&store), [8; 32]).await.unwrap_err().to_string();
    assert!(refused.contains("another master key"), "{refused}");
    assert!(kind(Tokens::open(Arc::clone(&store), [8; 32]).await).starts_with("InvalidArgument"));
    let again = Tokens::open(store, MASTER).await.unwrap();
    assert!(again.credential("AAA").await.unwrap().unwrap().secret.matches(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_master_key_wins() {
    let store = store().await;
    let opened = (0..20).map(|n: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { Tokens::open(store, [n % 4; 32]).await.is_ok() })
    });
    assert_eq!(join_all(opened).await.into_iter().filter(|joined| *joined.as_ref().unwrap()).count(), 5);
}

#[tokio::test]
async fn a_damaged_or_exchanged_secret_is_an_error_and_never_served() {
    let (tokens, store) = layer().await;
    let me = create(&tokens, "me", "AAA").await.unwrap().identity;
    let sealed = store.access_key("AAA").await.unwrap().unwrap();
    let mut damaged = sealed.sealed_secret.clone();
    damaged[20] ^= 1;
    store.create_access_key(&record("DAMAGED", &me.id, damaged)).await.unwrap();
    store.create_access_key(&record("EXCHANGED", &me.id, sealed.sealed_secret)).await.unwrap();
    store.create_access_key(&record("EMPTY", &me.id, Vec::new())).await.unwrap();
    for access_key in ["DAMAGED", "EXCHANGED", "EMPTY"] {
        for _ in 0..2 {
            assert_eq!(kind(tokens.credential(access_key).await), "Internal");
        }
    }
}

#[tokio::test]
async fn secrets_are_neither_printed_nor_stored() {
    let directory = TempDir::new().unwrap();
    let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap());
    let tokens = Tokens::open(Arc::clone(&store), MASTER).await.unwrap();
    let created = create(&tokens, "me", "AAA").await.unwrap();
    let generated = tokens.create_key("me", false, None, None).await.unwrap();
    let found = tokens.credential("AAA").await.unwrap().unwrap();
    tokens.settle().await;
    let record = store.access_key("AAA").await.unwrap();
    let printed = format!("{tokens:?} {created:?} {found:?} {record:?} {store:?} {:?}", tokens.keys().await.unwrap());
    assert!(!printed.contains(SECRET) && printed.contains("Secret(…)"), "{printed}");
    assert!(!printed.contains(&format!("{:?}", record.as_ref().unwrap().sealed_secret)));

    let absent = [SECRET.as_bytes().to_vec(), generated.secret.expose().as_bytes().to_vec(), MASTER.to_vec()];
    let mut read = 0;
    for closed in [false, true] {
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            read += bytes.len();
            for secret in &absent {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret), "closed: {closed}");
            }
        }
        store.close().await;
    }
    assert!(read > 10_000);
}

#[test]
fn secrets_are_compared_whole() {
    let secret = Secret::new(SECRET.into());
    assert!(secret.matches(SECRET));
    for other in ["", &SECRET[1..], &SECRET[..SECRET.len() - 1], "correct-horse-battery-stapla", "Correct-horse-battery-staple"] {
        assert!(!secret.matches(other));
    }
}

#[tokio::test]
async fn the_master_key_is_exchanged_under_running_gateways() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let store = store().await;
    let rotated = Arc::new(AtomicBool::new(false));
    let source: KeySource = {
        let rotated = Arc::clone(&rotated);
        Arc::new(move || {
            parse_master_keys(&if rotated.load(Ordering::SeqCst) {
                "08".repeat(32) + " " + &"07".repeat(32)
            } else {
                "07".repeat(32)
            })
        })
    };
    let settings = Settings::default();
    let open = async || {
        let tokens = Tokens::open_with(
            Arc::clone(&store),
            MASTER,
            Some(source.clone()),
            Limits { known: 0, ..Limits::default() },
            &settings,
        );
        Arc::new(tokens.await.unwrap())
    };
    let (ours, theirs) = (open().await, open().await);
    for n in 0..20 {
        create(&ours, "me", &format!("KEY{n}")).await.unwrap();
    }
    rotated.store(true, Ordering::SeqCst);
    let done = ours.reseal().await.unwrap();
    assert_eq!(done, Resealed { secrets: 20, resealed: 20, closed: 0 });
    assert_eq!(ours.reseal().await.unwrap(), Resealed { secrets: 20, resealed: 0, closed: 0 });
    for n in 0..20 {
        let found = theirs.credential(&format!("KEY{n}")).await.unwrap().unwrap();
        assert!(found.secret.matches(SECRET), "the other gateway reads its keys again by itself");
    }
    let only_new = Tokens::open(Arc::clone(&store), [8; 32]).await.unwrap();
    assert!(only_new.credential("KEY3").await.unwrap().unwrap().secret.matches(SECRET));
    assert!(Tokens::open(store, MASTER).await.is_err(), "the old key is out of use");
}

/// Revokes on one gateway and waits until the other refuses: how long it took.
async fn until_refused(ours: &Tokens, theirs: &Tokens, what: Revoked, access_key: &str) -> Duration {
    let begun = std::time::Instant::now();
    ours.revoke(what, "test").await.unwrap();
    while theirs.credential(access_key).await.unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

async fn revocation_reaches_every_gateway(open: impl AsyncFn() -> Arc<dyn MetaStore>) {
    let (ours, theirs) = (open().await, open().await);
    let ours = Arc::new(Tokens::open(ours, MASTER).await.unwrap());
    let theirs = Arc::new(Tokens::open(theirs, MASTER).await.unwrap());
    let following = tokio::spawn(Arc::clone(&theirs).follow_changes(|_| {}));
    for n in 0..5 {
        let access_key = format!("KEY{n}");
        create(&ours, "me", &access_key).await.unwrap();
        assert!(theirs.credential(&access_key).await.unwrap().is_some());
        let took = until_refused(&ours, &theirs, Revoked::Key(access_key.clone()), &access_key).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(ours.credential(&access_key).await.unwrap().is_none());
        assert_eq!(kind(create(&ours, "me", &access_key).await), "EntityExists", "what was revoked does not come back");
    }
    create(&ours, "me", "GONE").await.unwrap();
    create(&ours, "me", "STAYS").await.unwrap();
    assert!(theirs.credential("GONE").await.unwrap().is_some() && theirs.credential("STAYS").await.unwrap().is_some());
    assert!(ours.delete_key("GONE").await.unwrap());
    let begun = std::time::Instant::now();
    while theirs.credential("GONE").await.unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stays = theirs.credential("STAYS").await.unwrap().unwrap();
    assert!(stays.admits_presigned(|| Some(1)) && stays.admits_presigned(|| None));
    let moment = crate::runtime::unix_millis();
    ours.revoke(Revoked::Presigned("STAYS".into()), "leaked link").await.unwrap();
    let begun = std::time::Instant::now();
    while theirs.credential("STAYS").await.unwrap().unwrap().admits_presigned(|| Some(moment - 1)) {
        assert!(begun.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stays = theirs.credential("STAYS").await.unwrap().unwrap();
    assert!(!stays.admits_presigned(|| None) && stays.admits_presigned(|| Some(moment + 60_000)));
    following.abort();
    // A new process knows nothing but the store.
    let again = Tokens::open(open().await, MASTER).await.unwrap();
    assert!(again.credential("KEY0").await.unwrap().is_none());
    assert!(!again.credential("STAYS").await.unwrap().unwrap().admits_presigned(|| Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_reaches_every_gateway_on_sqlite() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    revocation_reaches_every_gateway(async || Arc::new(SqliteStore::open(&path).await.unwrap()) as Arc<dyn MetaStore>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn revocation_reaches_every_gateway_on_postgres() {
    let dsn = crate::meta::postgres::tests::schema().await;
    let open = async || Arc::new(crate::meta::PostgresStore::open(&dsn, 5).await.unwrap()) as Arc<dyn MetaStore>;
    revocation_reaches_every_gateway(open).await;
}

/// Those who fell behind do not wait between one page of changes and the next: a hundred of them, half a second each, would be too late.
#[tokio::test]
async fn many_changes_at_once_are_heard_at_once() {
    let store = store().await;
    let limits = Limits { page: 1, ..Limits::default() };
    let ours = Arc::new(Tokens::open_with(Arc::clone(&store), MASTER, None, limits, &Settings::default()).await.unwrap());
    let theirs = Tokens::open(store, MASTER).await.unwrap();
    create(&theirs, "me", "AAA").await.unwrap();
    assert!(ours.credential("AAA").await.unwrap().is_some());
    for n in 0..100 {
        theirs.revoke(Revoked::Key(format!("KEY{n}")), "").await.unwrap();
    }
    theirs.revoke(Revoked::Key("AAA".into()), "").await.unwrap();
    let following = tokio::spawn(Arc::clone(&ours).follow_changes(|_| {}));
    let refused = async {
        while ours.credential("AAA").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("a page at a time, with a wait after each");
    following.abort();
}

#[tokio::test]
async fn an_account_that_is_revoked_is_read_again() {
    let (tokens, store) = layer().await;
    let me = create(&tokens, "me", "AAA").await.unwrap().identity;
    assert!(tokens.credential("AAA").await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(2)).await;
    tokens.revoke(Revoked::Account(me.id.clone()), "left").await.unwrap();
    assert!(tokens.credential("AAA").await.unwrap().is_none());
    tokio::time::sleep(Duration::from_millis(2)).await;
    create(&tokens, "me", "BBB").await.unwrap();
    assert!(tokens.credential("BBB").await.unwrap().is_some(), "what began later is not meant");
    assert!(store.set_account_active(&me.id, false).await.unwrap());
    let change = store.changes(0, 100).await.unwrap().pop().unwrap();
    tokens.heard(&change).await;
    assert!(tokens.credential("BBB").await.unwrap().is_none(), "a suspended account");
}

#[tokio::test]
async fn a_key_ends_at_its_end() {
    let (tokens, store) = layer().await;
    let me = create(&tokens, "me", "AAA").await.unwrap().identity;
    let sealed_secret = tokens.seal.seal("ENDS", SECRET).unwrap();
    let end = crate::runtime::unix_millis() + 150;
    store.create_access_key(&AccessKeyRecord { expires: Some(end), ..record("ENDS", &me.id, sealed_secret) }).await.unwrap();
    assert_eq!(tokens.credential("ENDS").await.unwrap().unwrap().expires(), Some(end));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(tokens.credential("ENDS").await.unwrap().is_none());
}

/// The store is down: who is cached goes on, nobody unknown is let in.
#[tokio::test]
async fn while_the_store_is_down_the_cached_go_on_and_nobody_else() {
    let (tokens, store) = layer().await;
    create(&tokens, "me", "AAA").await.unwrap();
    create(&tokens, "me", "BBB").await.unwrap();
    assert!(tokens.credential("AAA").await.unwrap().is_some());
    tokens.revoke(Revoked::Key("BBB".into()), "").await.unwrap();
    store.close().await;
    assert!(tokens.credential("AAA").await.unwrap().is_some());
    assert!(tokens.credential("BBB").await.unwrap().is_none());
    for _ in 0..3 {
        assert_eq!(kind(tokens.credential("CCC").await), "MetaUnavailable");
    }
}

/// What a user may do is read again every minute; a key of the user goes on for as long as it is cached.
#[tokio::test]
async fn while_the_store_is_down_the_keys_of_users_go_on_with_what_they_may() {
    let store = store().await;
    let limits = Limits { policies_for: Duration::ZERO, ..Limits::default() };
    let tokens = Tokens::open_with(Arc::clone(&store), MASTER, None, limits, &Settings::default()).await.unwrap();
    let account = create(&tokens, "tenant", "AAA").await.unwrap().identity;
    let user = |id: &str| crate::meta::identities::suite::entity(id, &account.id, crate::meta::EntityKind::User, id);
    let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}"#;
    let mut keys = Vec::new();
    for id in ["U", "V"] {
        store.create_entity(&user(id)).await.unwrap();
        store.put_inline_policy(id, "p", policy).await.unwrap();
        let (key, _) = tokens.create_key_for(&account, Some(id)).await.unwrap();
        keys.push(tokens.credential(&key.access_key).await.unwrap().unwrap());
    }
    let (seen, unseen) = (keys[0].clone(), keys[1].clone());
    let may = |actor: &Actor, action| actor.may(action, policy::Target::s3("b/k"), &|_| Vec::new());
    let before = tokens.actor(seen.clone()).await.unwrap().unwrap();
    assert!(may(&before, "s3:GetObject") && !may(&before, "s3:PutObject"));
    store.delete_inline_policy("U", "p").await.unwrap();
    tokens.policies_changed(&account.id);
    assert!(!may(&tokens.actor(seen.clone()).await.unwrap().unwrap(), "s3:GetObject"));
    store.put_inline_policy("U", "p", policy).await.unwrap();
    assert!(may(&tokens.actor(seen.clone()).await.unwrap().unwrap(), "s3:GetObject"), "read again each time");
    store.close().await;
    let down = tokens.actor(seen.clone()).await.unwrap().unwrap();
    assert!(may(&down, "s3:GetObject") && !may(&down, "s3:PutObject"));
    assert_eq!(kind(tokens.actor(unseen).await), "MetaUnavailable", "nobody is let in whose policies are not known");
    tokens.policies_changed(&account.id);
    assert_eq!(kind(tokens.actor(seen).await), "MetaUnavailable", "what is known to have changed is not good");
}

/// Within four hours of the end, on either side of it, and for seven days in all.
#[tokio::test]
async fn a_session_is_renewed_around_its_end_and_for_a_week() {
    const HOUR: i64 = 3_600_000;
    const WEEK: i64 = 7 * 24 * HOUR;
    let (tokens, store) = layer().await;
    let account = create(&tokens, "tenant", "AAA").await.unwrap().identity.id.clone();
    let now = crate::runtime::unix_millis();
    for (n, (issued, expires, began, lasts)) in [
        (now - HOUR, now + 4 * HOUR - 60_000, None, Some(5 * HOUR - 60_000)),
        (now - HOUR, now + 4 * HOUR + 60_000, None, None),
        (now - 12 * HOUR, now - 4 * HOUR + 60_000, None, Some(8 * HOUR + 60_000)),
        (now - 12 * HOUR, now - 4 * HOUR - 60_000, None, None),
        (now - HOUR, now + HOUR, Some(now - WEEK + HOUR), Some(HOUR)),
        (now - HOUR, now + HOUR, Some(now - WEEK - 1), None),
    ]
    .into_iter()
    .enumerate()
    {
        let access_key = format!("SESSION{n}");
        let token = u8::try_from(n).unwrap();
        let record = crate::meta::SessionRecord {
            sealed_secret: tokens.seal.seal(&access_key, SECRET).unwrap(),
            issued,
            expires,
            context: began.map(|began| ("began".to_owned(), began.to_string())).into_iter().collect(),
            ..crate::meta::identities::suite::session(&access_key, token, &account, None)
        };
        store.create_session(&record).await.unwrap();
        let old = tokens.credential(&access_key).await.unwrap().unwrap();
        let renewed = tokens.renew_session(&old).await;
        match lasts {
            Some(lasts) => {
                let expires = renewed.unwrap().expires;
                assert!((now + lasts..now + lasts + 60_000).contains(&expires), "{n}: {}", expires - now - lasts);
                assert!(tokens.credential(&access_key).await.unwrap().is_none(), "{n}: the old one is over");
            }
            None => assert!(kind(renewed).starts_with("InvalidRequest"), "{n}"),
        }
    }
}
