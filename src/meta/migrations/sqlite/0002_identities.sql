-- Accounts with users, groups, roles, policies, sessions and revocations.
-- Who had access keys so far becomes an account; the keys are the account's own.

CREATE TABLE accounts (
    id      TEXT    NOT NULL PRIMARY KEY,
    number  TEXT    NOT NULL UNIQUE,
    name    TEXT    NOT NULL UNIQUE,
    root    INTEGER NOT NULL CHECK (root IN (0, 1)),
    active  INTEGER NOT NULL CHECK (active IN (0, 1)),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO accounts (id, number, name, root, active, created)
    SELECT id, printf('%012d', 100000000000 + abs(random() % 900000000000)), name, root, 1, created FROM identities;

-- Documents of an account by kind and name.
CREATE TABLE account_documents (
    account  TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (account, kind, name)
) STRICT;

CREATE TABLE policies (
    id              TEXT    NOT NULL PRIMARY KEY,
    account         TEXT    NOT NULL REFERENCES accounts (id),
    path            TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    folded          TEXT    NOT NULL, -- the name in lower case
    description     TEXT    NOT NULL,
    default_version INTEGER NOT NULL,
    last_version    INTEGER NOT NULL, -- the highest number given so far
    tags            TEXT    NOT NULL, -- JSON object of strings
    created         INTEGER NOT NULL,
    updated         INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX policies_by_name ON policies (account, folded);

CREATE TABLE policy_versions (
    policy   TEXT    NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    version  INTEGER NOT NULL,
    document TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    PRIMARY KEY (policy, version)
) STRICT;

-- Users, groups and roles. What still refers to one keeps it from being removed.
CREATE TABLE entities (
    id               TEXT    NOT NULL PRIMARY KEY,
    account          TEXT    NOT NULL REFERENCES accounts (id),
    kind             TEXT    NOT NULL CHECK (kind IN ('user', 'group', 'role')),
    path             TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    folded           TEXT    NOT NULL, -- the name in lower case
    description      TEXT    NOT NULL,
    trust            TEXT,
    max_session_secs INTEGER NOT NULL,
    boundary         TEXT,
    boundary_policy  TEXT REFERENCES policies (id),
    tags             TEXT    NOT NULL, -- JSON object of strings
    created          INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX entities_by_name ON entities (account, kind, folded);
CREATE INDEX entities_by_boundary ON entities (boundary) WHERE boundary IS NOT NULL;
CREATE INDEX entities_by_boundary_policy ON entities (boundary_policy) WHERE boundary_policy IS NOT NULL;

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES entities (id),
    user_id  TEXT NOT NULL REFERENCES entities (id),
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_members_by_user ON group_members (user_id, group_id);

CREATE TABLE inline_policies (
    entity   TEXT NOT NULL REFERENCES entities (id),
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (entity, name)
) STRICT;

CREATE TABLE attached_policies (
    entity TEXT NOT NULL REFERENCES entities (id),
    arn    TEXT NOT NULL,
    policy TEXT REFERENCES policies (id),
    PRIMARY KEY (entity, arn)
) STRICT;

CREATE INDEX attached_policies_by_arn ON attached_policies (arn, entity);
CREATE INDEX attached_policies_by_policy ON attached_policies (policy) WHERE policy IS NOT NULL;

CREATE TABLE keys (
    access_key    TEXT    NOT NULL PRIMARY KEY,
    sealed_secret BLOB    NOT NULL,
    account       TEXT    NOT NULL REFERENCES accounts (id),
    user_id       TEXT REFERENCES entities (id),
    active        INTEGER NOT NULL CHECK (active IN (0, 1)),
    expires       INTEGER,
    service       TEXT, -- JSON: name, description, policy
    created       INTEGER NOT NULL,
    last_used     INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO keys (access_key, sealed_secret, account, active, created)
    SELECT access_key, sealed_secret, identity, active, created FROM access_keys;
DROP TABLE access_keys;
DROP TABLE identities;
ALTER TABLE keys RENAME TO access_keys;

CREATE INDEX access_keys_by_owner ON access_keys (account, user_id, access_key);
CREATE INDEX access_keys_by_user ON access_keys (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE sessions (
    access_key    TEXT    NOT NULL PRIMARY KEY,
    sealed_secret BLOB    NOT NULL,
    token_hash    BLOB    NOT NULL UNIQUE, -- SHA-256; the token itself is nowhere
    account       TEXT    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    entity        TEXT REFERENCES entities (id) ON DELETE CASCADE,
    kind          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    policy        TEXT,
    policy_arns   TEXT    NOT NULL, -- JSON array of strings
    tags          TEXT    NOT NULL, -- JSON object of strings
    context       TEXT    NOT NULL, -- JSON object of strings
    issued        INTEGER NOT NULL,
    expires       INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_end ON sessions (expires);
CREATE INDEX sessions_by_account ON sessions (account);
CREATE INDEX sessions_by_entity ON sessions (entity) WHERE entity IS NOT NULL;

CREATE TABLE revocations (
    what   TEXT    NOT NULL PRIMARY KEY,
    before INTEGER NOT NULL,
    until  INTEGER,
    reason TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_by_end ON revocations (until) WHERE until IS NOT NULL;

-- What other gateways have to forget, in the order in which it became visible.
CREATE TABLE changes (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    topic   TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    made    INTEGER NOT NULL
) STRICT;

CREATE INDEX changes_by_age ON changes (made);
