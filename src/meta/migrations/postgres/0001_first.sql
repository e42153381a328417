-- Text is compared byte by byte (COLLATE "C"), which is the order that S3 lists keys in, whatever the database's own order is.
-- Documents that are answered as they were given are text; JSONB is for what only the gateway reads.

CREATE TABLE buckets (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner    TEXT COLLATE "C" NOT NULL,
    created  TIMESTAMPTZ      NOT NULL,
    location TEXT COLLATE "C" NOT NULL
);

CREATE INDEX buckets_by_owner ON buckets (owner, name);

CREATE TABLE bucket_settings (
    bucket   TEXT COLLATE "C" NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    name     TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (bucket, name)
);

CREATE TABLE mounts (
    bucket   TEXT COLLATE "C" NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    prefix   TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    settings JSONB            NOT NULL, -- JSON object of strings
    PRIMARY KEY (bucket, prefix)
);

CREATE TABLE uploads (
    upload_id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bucket             TEXT COLLATE "C" NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    key                TEXT COLLATE "C" NOT NULL,
    mount_prefix       TEXT COLLATE "C" NOT NULL,
    initiator          TEXT COLLATE "C" NOT NULL,
    created            TIMESTAMPTZ      NOT NULL,
    attributes         JSONB            NOT NULL, -- JSON object of strings
    checksum_algorithm TEXT COLLATE "C" NOT NULL,
    checksum_type      TEXT COLLATE "C" NOT NULL
);

CREATE INDEX uploads_by_key ON uploads (bucket, key, upload_id);
CREATE INDEX uploads_by_age ON uploads (created);

CREATE TABLE parts (
    upload_id TEXT COLLATE "C" NOT NULL REFERENCES uploads (upload_id) ON DELETE CASCADE,
    number    BIGINT           NOT NULL,
    token     TEXT COLLATE "C" NOT NULL,
    size      BIGINT           NOT NULL,
    etag      TEXT COLLATE "C" NOT NULL,
    checksums JSONB            NOT NULL, -- JSON object of strings
    modified  TIMESTAMPTZ      NOT NULL,
    PRIMARY KEY (upload_id, number)
);

CREATE TABLE completed_uploads (
    upload_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bucket    TEXT COLLATE "C" NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    key       TEXT COLLATE "C" NOT NULL,
    request   TEXT COLLATE "C" NOT NULL,
    etag      TEXT COLLATE "C" NOT NULL,
    finished  TIMESTAMPTZ      NOT NULL
);

CREATE INDEX completed_uploads_by_bucket ON completed_uploads (bucket);
CREATE INDEX completed_uploads_by_age ON completed_uploads (finished);

CREATE TABLE installation (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- Accounts with users, groups, roles, policies, sessions and revocations.

CREATE TABLE accounts (
    id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    number  TEXT COLLATE "C" NOT NULL UNIQUE,
    name    TEXT COLLATE "C" NOT NULL UNIQUE,
    root    BOOLEAN          NOT NULL,
    active  BOOLEAN          NOT NULL,
    created TIMESTAMPTZ      NOT NULL
);

-- Documents of an account by kind and name.
CREATE TABLE account_documents (
    account  TEXT COLLATE "C" NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind     TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, kind, name)
);

CREATE TABLE policies (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account         TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    path            TEXT COLLATE "C" NOT NULL,
    name            TEXT COLLATE "C" NOT NULL,
    folded          TEXT COLLATE "C" NOT NULL, -- the name in lower case
    description     TEXT COLLATE "C" NOT NULL,
    default_version BIGINT           NOT NULL,
    last_version    BIGINT           NOT NULL, -- the highest number given so far
    tags            JSONB            NOT NULL, -- JSON object of strings
    created         TIMESTAMPTZ      NOT NULL,
    updated         TIMESTAMPTZ      NOT NULL
);

CREATE UNIQUE INDEX policies_by_name ON policies (account, folded);

CREATE TABLE policy_versions (
    policy   TEXT COLLATE "C" NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    version  BIGINT           NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    created  TIMESTAMPTZ      NOT NULL,
    PRIMARY KEY (policy, version)
);

-- Users, groups and roles. What still refers to one keeps it from being removed.
CREATE TABLE entities (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account          TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    kind             TEXT COLLATE "C" NOT NULL CHECK (kind IN ('user', 'group', 'role')),
    path             TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    folded           TEXT COLLATE "C" NOT NULL, -- the name in lower case
    description      TEXT COLLATE "C" NOT NULL,
    trust            TEXT COLLATE "C",
    max_session_secs BIGINT           NOT NULL,
    boundary         TEXT COLLATE "C",
    boundary_policy  TEXT COLLATE "C" REFERENCES policies (id),
    tags             JSONB            NOT NULL, -- JSON object of strings
    created          TIMESTAMPTZ      NOT NULL
);

CREATE UNIQUE INDEX entities_by_name ON entities (account, kind, folded);
CREATE INDEX entities_by_boundary ON entities (boundary) WHERE boundary IS NOT NULL;
CREATE INDEX entities_by_boundary_policy ON entities (boundary_policy) WHERE boundary_policy IS NOT NULL;

CREATE TABLE group_members (
    group_id TEXT COLLATE "C" NOT NULL REFERENCES entities (id),
    user_id  TEXT COLLATE "C" NOT NULL REFERENCES entities (id),
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX group_members_by_user ON group_members (user_id, group_id);

CREATE TABLE inline_policies (
    entity   TEXT COLLATE "C" NOT NULL REFERENCES entities (id),
    name     TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, name)
);

CREATE TABLE attached_policies (
    entity TEXT COLLATE "C" NOT NULL REFERENCES entities (id),
    arn    TEXT COLLATE "C" NOT NULL,
    policy TEXT COLLATE "C" REFERENCES policies (id),
    PRIMARY KEY (entity, arn)
);

CREATE INDEX attached_policies_by_arn ON attached_policies (arn, entity);
CREATE INDEX attached_policies_by_policy ON attached_policies (policy) WHERE policy IS NOT NULL;

CREATE TABLE access_keys (
    access_key    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed_secret BYTEA            NOT NULL,
    account       TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    user_id       TEXT COLLATE "C" REFERENCES entities (id),
    active        BOOLEAN          NOT NULL,
    expires       TIMESTAMPTZ,
    service       JSONB, -- JSON: name, description, policy
    created       TIMESTAMPTZ      NOT NULL,
    last_used     TIMESTAMPTZ
);

CREATE INDEX access_keys_by_owner ON access_keys (account, user_id, access_key);
CREATE INDEX access_keys_by_user ON access_keys (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE sessions (
    access_key    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed_secret BYTEA            NOT NULL,
    token_hash    BYTEA            NOT NULL UNIQUE, -- SHA-256; the token itself is nowhere
    account       TEXT COLLATE "C" NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    entity        TEXT COLLATE "C" REFERENCES entities (id) ON DELETE CASCADE,
    kind          TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    policy        TEXT COLLATE "C",
    policy_arns   JSONB            NOT NULL, -- JSON array of strings
    tags          JSONB            NOT NULL, -- JSON object of strings
    context       JSONB            NOT NULL, -- JSON object of strings
    issued        TIMESTAMPTZ      NOT NULL,
    expires       TIMESTAMPTZ      NOT NULL
);

CREATE INDEX sessions_by_end ON sessions (expires);
CREATE INDEX sessions_by_account ON sessions (account);
CREATE INDEX sessions_by_entity ON sessions (entity) WHERE entity IS NOT NULL;

CREATE TABLE revocations (
    what   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    before TIMESTAMPTZ      NOT NULL,
    until  TIMESTAMPTZ,
    reason TEXT COLLATE "C" NOT NULL
);

CREATE INDEX revocations_by_end ON revocations (until) WHERE until IS NOT NULL;

-- What other gateways have to forget, in the order in which it became visible.
CREATE TABLE changes (
    number  BIGINT           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic   TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    made    TIMESTAMPTZ      NOT NULL
);

CREATE INDEX changes_by_age ON changes (made);
-- Wakes those who wait, when the change is committed.
CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sluice_changes', NEW.number::text);
    RETURN NULL;
END $$;

CREATE TRIGGER changes_told AFTER INSERT ON changes FOR EACH ROW EXECUTE FUNCTION tell_change();
