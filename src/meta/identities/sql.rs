//! The statements, in the words that SQLite and PostgreSQL share. All are constants: prepared once per connection, none built from input.

/// The columns of an account, as [`super::rows`] reads them. Seven of an access key, and so on, below.
macro_rules! account {
    ($t:literal) => {
        concat!($t, "id, ", $t, "number, ", $t, "name, ", $t, "root, ", $t, "active, ", $t, "created")
    };
}

macro_rules! entity {
    ($t:literal) => {
        concat!(
            $t,
            "id, ",
            $t,
            "account, ",
            $t,
            "kind, ",
            $t,
            "path, ",
            $t,
            "name, ",
            $t,
            "description, ",
            $t,
            "trust, ",
            $t,
            "max_session_secs, ",
            $t,
            "boundary, ",
            $t,
            "boundary_policy, ",
            $t,
            "tags, ",
            $t,
            "created"
        )
    };
}

macro_rules! key {
    ($t:literal) => {
        concat!(
            $t,
            "access_key, ",
            $t,
            "sealed_secret, ",
            $t,
            "account, ",
            $t,
            "user_id, ",
            $t,
            "active, ",
            $t,
            "expires, ",
            $t,
            "service, ",
            $t,
            "created, ",
            $t,
            "last_used"
        )
    };
}

macro_rules! session {
    ($t:literal) => {
        concat!(
            $t,
            "access_key, ",
            $t,
            "sealed_secret, ",
            $t,
            "token_hash, ",
            $t,
            "account, ",
            $t,
            "entity, ",
            $t,
            "kind, ",
            $t,
            "name, ",
            $t,
            "policy, ",
            $t,
            "policy_arns, ",
            $t,
            "tags, ",
            $t,
            "context, ",
            $t,
            "issued, ",
            $t,
            "expires"
        )
    };
}

macro_rules! policy {
    () => {
        "id, account, path, name, description, default_version, tags, created, updated"
    };
}

// === accounts ===

pub(crate) const CREATE_ACCOUNT: &str = "INSERT INTO accounts (id, number, name, root, active, created) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
pub(crate) const ACCOUNT: &str = concat!("SELECT ", account!(""), " FROM accounts WHERE id = $1");
pub(crate) const ACCOUNT_BY_NUMBER: &str = concat!("SELECT ", account!(""), " FROM accounts WHERE number = $1");
pub(crate) const ACCOUNT_BY_NAME: &str = concat!("SELECT ", account!(""), " FROM accounts WHERE name = $1");
pub(crate) const ACCOUNTS: &str = concat!("SELECT ", account!(""), " FROM accounts WHERE name > $1 ORDER BY name LIMIT $2");
pub(crate) const SET_ACCOUNT_ACTIVE: &str = "UPDATE accounts SET active = $2 WHERE id = $1";
/// Buckets do not refer to accounts by a key, because a bucket may be older than its account's record.
pub(crate) const DELETE_ACCOUNT: &str =
    "DELETE FROM accounts WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM buckets WHERE owner = $1)";
pub(crate) const HAS_ROOT_KEY: &str = "SELECT EXISTS (SELECT 1 FROM accounts a JOIN access_keys k ON k.account = a.id \
     WHERE a.root AND a.active AND k.active AND k.user_id IS NULL)";

pub(crate) const ADD_ACCOUNT_DOCUMENT: &str = "INSERT INTO account_documents (account, kind, name, document) \
     SELECT id, $2, $3, $4 FROM accounts WHERE id = $1 ON CONFLICT DO NOTHING";
pub(crate) const REPLACE_ACCOUNT_DOCUMENT: &str =
    "UPDATE account_documents SET document = $5 WHERE account = $1 AND kind = $2 AND name = $3 AND document = $4";
pub(crate) const DELETE_ACCOUNT_DOCUMENT: &str =
    "DELETE FROM account_documents WHERE account = $1 AND kind = $2 AND name = $3 AND document = $4";
pub(crate) const ACCOUNT_DOCUMENTS: &str =
    "SELECT name, document FROM account_documents WHERE account = $1 AND kind = $2 ORDER BY name";

// === users, groups, roles ===

pub(crate) const CREATE_ENTITY: &str = "INSERT INTO entities (id, account, kind, path, name, folded, description, trust, \
     max_session_secs, boundary, boundary_policy, tags, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
     ON CONFLICT DO NOTHING";
pub(crate) const ENTITY: &str = concat!("SELECT ", entity!(""), " FROM entities WHERE id = $1");
pub(crate) const ENTITY_NAMED: &str =
    concat!("SELECT ", entity!(""), " FROM entities WHERE account = $1 AND kind = $2 AND folded = $3");
pub(crate) const ENTITIES: &str = concat!(
    "SELECT ",
    entity!(""),
    " FROM entities WHERE account = $1 AND kind = $2 AND folded > $3 \
     AND substr(path, 1, length($4)) = $4 ORDER BY folded LIMIT $5"
);
pub(crate) const UPDATE_ENTITY: &str = "UPDATE entities SET path = $2, name = $3, folded = $4, description = $5, trust = $6, \
     max_session_secs = $7, boundary = $8, boundary_policy = $9, tags = $10 WHERE id = $1";
pub(crate) const DELETE_ENTITY: &str = "DELETE FROM entities WHERE id = $1";

pub(crate) const ADD_MEMBER: &str = "INSERT INTO group_members (group_id, user_id) SELECT g.id, u.id FROM entities g \
     JOIN entities u ON u.account = g.account WHERE g.id = $1 AND g.kind = 'group' AND u.id = $2 AND u.kind = 'user' \
     ON CONFLICT DO NOTHING";
pub(crate) const IS_MEMBER: &str = "SELECT EXISTS (SELECT 1 FROM group_members WHERE group_id = $1 AND user_id = $2)";
pub(crate) const REMOVE_MEMBER: &str = "DELETE FROM group_members WHERE group_id = $1 AND user_id = $2";
pub(crate) const MEMBERS: &str = concat!(
    "SELECT ",
    entity!("e."),
    " FROM group_members m JOIN entities e ON e.id = m.user_id WHERE m.group_id = $1 \
     AND e.folded > $2 ORDER BY e.folded LIMIT $3"
);
pub(crate) const GROUPS_OF: &str = concat!(
    "SELECT ",
    entity!("e."),
    " FROM group_members m JOIN entities e ON e.id = m.group_id WHERE m.user_id = $1 \
     AND e.folded > $2 ORDER BY e.folded LIMIT $3"
);

// === keys ===

/// One statement that also looks for what stands against it, so that many keys are one round trip each.
pub(crate) const CREATE_ACCESS_KEY: &str = "INSERT INTO access_keys (access_key, sealed_secret, account, user_id, active, expires, \
     service, created, last_used) SELECT $1, $2, a.id, $4, $5, $6, $7, $8, $9 FROM accounts a WHERE a.id = $3 \
     AND ($4 IS NULL OR EXISTS (SELECT 1 FROM entities e WHERE e.id = $4 AND e.account = $3 AND e.kind = 'user')) \
     AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.access_key = $1) \
     AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.what = $10) ON CONFLICT DO NOTHING";
/// Why the statement above did nothing: whether the access key stands against it.
pub(crate) const ACCESS_KEY_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM access_keys WHERE access_key = $1) \
     OR EXISTS (SELECT 1 FROM sessions WHERE access_key = $1) OR EXISTS (SELECT 1 FROM revocations WHERE what = $2)";
pub(crate) const ACCESS_KEY: &str = concat!("SELECT ", key!(""), " FROM access_keys WHERE access_key = $1");
pub(crate) const ACCESS_KEYS: &str =
    concat!("SELECT ", key!(""), " FROM access_keys WHERE access_key > $1 ORDER BY access_key LIMIT $2");
pub(crate) const ACCESS_KEYS_OF_USER: &str = concat!(
    "SELECT ",
    key!(""),
    " FROM access_keys WHERE account = $1 AND user_id = $2 AND access_key > $3 ORDER BY access_key LIMIT $4"
);
pub(crate) const ACCESS_KEYS_OF_ACCOUNT: &str = concat!(
    "SELECT ",
    key!(""),
    " FROM access_keys WHERE account = $1 AND user_id IS NULL AND access_key > $2 ORDER BY access_key LIMIT $3"
);
pub(crate) const UPDATE_ACCESS_KEY: &str = "UPDATE access_keys SET active = $2, expires = $3, service = $4 WHERE access_key = $1";
pub(crate) const DELETE_ACCESS_KEY: &str = "DELETE FROM access_keys WHERE access_key = $1";
pub(crate) const NOTE_KEY_USE: &str =
    "UPDATE access_keys SET last_used = $2 WHERE access_key = $1 AND (last_used IS NULL OR last_used < $2)";

// === sessions ===

pub(crate) const CREATE_SESSION: &str = "INSERT INTO sessions (access_key, sealed_secret, token_hash, account, entity, kind, name, \
     policy, policy_arns, tags, context, issued, expires) SELECT $1, $2, $3, a.id, $5, $6, $7, $8, $9, $10, $11, $12, $13 \
     FROM accounts a WHERE a.id = $4 \
     AND ($5 IS NULL OR EXISTS (SELECT 1 FROM entities e WHERE e.id = $5 AND e.account = $4 AND e.kind <> 'group')) \
     AND NOT EXISTS (SELECT 1 FROM access_keys k WHERE k.access_key = $1) ON CONFLICT DO NOTHING";
pub(crate) const SESSION_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM access_keys WHERE access_key = $1) \
     OR EXISTS (SELECT 1 FROM sessions WHERE access_key = $1 OR token_hash = $2)";
pub(crate) const SESSION: &str = concat!("SELECT ", session!(""), " FROM sessions WHERE token_hash = $1");
pub(crate) const DELETE_SESSION: &str = "DELETE FROM sessions WHERE token_hash = $1";

/// A key with its account and its user, once for each revocation that names one of them, and once when there is none: one statement, since
/// this is what the first request of a key waits for. The columns of the account begin at 9, those of the user at 15, those of the
/// revocation at 27.
pub(crate) const LASTING_CREDENTIAL: &str = concat!(
    "SELECT ",
    key!("k."),
    ", ",
    account!("a."),
    ", ",
    entity!("e."),
    ", r.what, r.before, r.until, r.reason FROM access_keys k JOIN accounts a ON a.id = k.account \
     LEFT JOIN entities e ON e.id = k.user_id LEFT JOIN revocations r ON r.what IN \
     ('key:' || k.access_key, 'presigned:' || k.access_key, 'account:' || k.account, 'sessions:' || k.user_id) \
     WHERE k.access_key = $1 ORDER BY r.what"
);
/// A session with its account and its entity. The columns of the account begin at 13, those of the entity at 19.
pub(crate) const TEMPORARY_CREDENTIAL: &str = concat!(
    "SELECT ",
    session!("s."),
    ", ",
    account!("a."),
    ", ",
    entity!("e."),
    " FROM sessions s JOIN accounts a ON a.id = s.account LEFT JOIN entities e ON e.id = s.entity WHERE s.access_key = $1"
);

pub(crate) const REVOKE: &str = "INSERT INTO revocations (what, before, until, reason) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (what) DO UPDATE SET \
     before = CASE WHEN excluded.before > revocations.before THEN excluded.before ELSE revocations.before END, \
     until = CASE WHEN revocations.until IS NULL OR excluded.until IS NULL THEN NULL \
     WHEN excluded.until > revocations.until THEN excluded.until ELSE revocations.until END, reason = excluded.reason";
pub(crate) const REVOCATIONS: &str = "SELECT what, before, until, reason FROM revocations WHERE what > $1 ORDER BY what LIMIT $2";
/// Those that name a credential, by up to five names.
pub(crate) const REVOCATIONS_NAMED: &str =
    "SELECT what, before, until, reason FROM revocations WHERE what IN ($1, $2, $3, $4, $5) ORDER BY what";

// === policies ===

pub(crate) const PUT_INLINE_POLICY: &str = "INSERT INTO inline_policies (entity, name, document) \
     SELECT id, $2, $3 FROM entities WHERE id = $1 ON CONFLICT (entity, name) DO UPDATE SET document = excluded.document";
pub(crate) const INLINE_POLICIES: &str = "SELECT name, document FROM inline_policies WHERE entity = $1 ORDER BY name";
pub(crate) const DELETE_INLINE_POLICY: &str = "DELETE FROM inline_policies WHERE entity = $1 AND name = $2";

pub(crate) const CREATE_POLICY: &str = "INSERT INTO policies (id, account, path, name, folded, description, default_version, \
     last_version, tags, created, updated) VALUES ($1, $2, $3, $4, $5, $6, 1, 1, $7, $8, $9) ON CONFLICT DO NOTHING";
pub(crate) const POLICY: &str = concat!("SELECT ", policy!(), " FROM policies WHERE id = $1");
pub(crate) const POLICY_NAMED: &str = concat!("SELECT ", policy!(), " FROM policies WHERE account = $1 AND folded = $2");
pub(crate) const POLICIES: &str = concat!(
    "SELECT ",
    policy!(),
    " FROM policies WHERE account = $1 AND folded > $2 AND substr(path, 1, length($3)) = $3 \
     ORDER BY folded LIMIT $4"
);
pub(crate) const SET_POLICY_TAGS: &str = "UPDATE policies SET tags = $2 WHERE id = $1";
pub(crate) const DELETE_POLICY: &str = "DELETE FROM policies WHERE id = $1";
pub(crate) const COUNT_POLICY_VERSIONS: &str = "SELECT count(*) FROM policy_versions WHERE policy = $1";
/// Numbers are given once: that of a version which was removed does not come back.
pub(crate) const NEXT_POLICY_VERSION: &str =
    "UPDATE policies SET last_version = last_version + 1 WHERE id = $1 RETURNING last_version";
pub(crate) const ADD_POLICY_VERSION: &str =
    "INSERT INTO policy_versions (policy, version, document, created) VALUES ($1, $2, $3, $4)";
pub(crate) const POLICY_VERSIONS: &str =
    "SELECT version, document, created FROM policy_versions WHERE policy = $1 ORDER BY version DESC";
pub(crate) const SET_DEFAULT_POLICY_VERSION: &str = "UPDATE policies SET default_version = $2, updated = $3 WHERE id = $1 \
     AND EXISTS (SELECT 1 FROM policy_versions v WHERE v.policy = $1 AND v.version = $2)";
pub(crate) const DELETE_POLICY_VERSION: &str = "DELETE FROM policy_versions WHERE policy = $1 AND version = $2";

pub(crate) const ATTACH_POLICY: &str = "INSERT INTO attached_policies (entity, arn, policy) \
     SELECT id, $2, $3 FROM entities WHERE id = $1 ON CONFLICT DO NOTHING";
pub(crate) const DETACH_POLICY: &str = "DELETE FROM attached_policies WHERE entity = $1 AND arn = $2";
pub(crate) const ATTACHED_POLICIES: &str = "SELECT arn, policy FROM attached_policies WHERE entity = $1 ORDER BY arn";
pub(crate) const POLICY_USERS: &str = concat!(
    "SELECT ",
    entity!("e."),
    ", 0 FROM entities e JOIN attached_policies p ON p.entity = e.id \
     WHERE e.account = $1 AND p.arn = $2 AND e.id > $3 UNION ALL SELECT ",
    entity!("e."),
    ", 1 FROM entities e \
     WHERE e.account = $1 AND e.boundary = $2 AND e.id > $3 ORDER BY 1, 13 LIMIT $4"
);
/// Holder, where, name or ARN, document.
pub(crate) const APPLIED_POLICIES: &str = "WITH holders (id) AS (SELECT CAST($1 AS TEXT) \
     UNION SELECT group_id FROM group_members WHERE user_id = $1) \
     SELECT i.entity, 0, i.name, i.document FROM holders h JOIN inline_policies i ON i.entity = h.id \
     UNION ALL SELECT p.entity, 1, p.arn, v.document FROM holders h JOIN attached_policies p ON p.entity = h.id \
     LEFT JOIN policies m ON m.id = p.policy LEFT JOIN policy_versions v ON v.policy = m.id AND v.version = m.default_version \
     UNION ALL SELECT e.id, 2, e.boundary, v.document FROM entities e LEFT JOIN policies m ON m.id = e.boundary_policy \
     LEFT JOIN policy_versions v ON v.policy = m.id AND v.version = m.default_version \
     WHERE e.id = $1 AND e.boundary IS NOT NULL";

// === the master key ===

pub(crate) const SEALED_SECRETS: &str = "SELECT access_key, sealed_secret FROM access_keys WHERE access_key > $1 \
     UNION ALL SELECT access_key, sealed_secret FROM sessions WHERE access_key > $1 ORDER BY access_key LIMIT $2";
pub(crate) const RESEAL_KEY: &str = "UPDATE access_keys SET sealed_secret = $3 WHERE access_key = $1 AND sealed_secret = $2";
pub(crate) const RESEAL_SESSION: &str = "UPDATE sessions SET sealed_secret = $3 WHERE access_key = $1 AND sealed_secret = $2";

// === changes ===

pub(crate) const TELL: &str = "INSERT INTO changes (topic, subject, made) VALUES ($1, $2, $3)";
pub(crate) const LAST_CHANGE: &str = "SELECT max(number) FROM changes";
pub(crate) const CHANGES: &str = "SELECT number, topic, subject FROM changes WHERE number > $1 ORDER BY number LIMIT $2";
/// Each bounded, so that one round never takes long.
pub(crate) const FORGET_SESSIONS: &str = "DELETE FROM sessions WHERE access_key IN \
     (SELECT access_key FROM sessions WHERE expires < $1 ORDER BY expires LIMIT 1000)";
pub(crate) const FORGET_REVOCATIONS: &str = "DELETE FROM revocations WHERE what IN \
     (SELECT what FROM revocations WHERE until < $1 ORDER BY until LIMIT 1000)";
pub(crate) const FORGET_CHANGES: &str = "DELETE FROM changes WHERE number IN \
     (SELECT number FROM changes WHERE made < $1 ORDER BY made LIMIT 1000)";
