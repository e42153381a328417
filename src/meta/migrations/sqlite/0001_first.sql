-- Text is compared byte by byte (BINARY, the default), which is the order that S3 lists keys in.
-- Times are milliseconds since the Unix epoch.

CREATE TABLE buckets (
    name     TEXT    NOT NULL PRIMARY KEY,
    owner    TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    location TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX buckets_by_owner ON buckets (owner, name);

CREATE TABLE bucket_settings (
    bucket   TEXT NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (bucket, name)
) STRICT;

CREATE TABLE mounts (
    bucket   TEXT NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    prefix   TEXT NOT NULL,
    provider TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object of strings
    PRIMARY KEY (bucket, prefix)
) STRICT;

CREATE TABLE identities (
    id      TEXT    NOT NULL PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    root    INTEGER NOT NULL CHECK (root IN (0, 1)),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE access_keys (
    access_key    TEXT    NOT NULL PRIMARY KEY,
    sealed_secret BLOB    NOT NULL,
    identity      TEXT    NOT NULL REFERENCES identities (id),
    active        INTEGER NOT NULL CHECK (active IN (0, 1)),
    created       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX access_keys_by_identity ON access_keys (identity);

CREATE TABLE uploads (
    upload_id          TEXT    NOT NULL PRIMARY KEY,
    bucket             TEXT    NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    key                TEXT    NOT NULL,
    mount_prefix       TEXT    NOT NULL,
    initiator          TEXT    NOT NULL,
    created            INTEGER NOT NULL,
    attributes         TEXT    NOT NULL, -- JSON object of strings
    checksum_algorithm TEXT    NOT NULL,
    checksum_type      TEXT    NOT NULL
) STRICT;

CREATE INDEX uploads_by_key ON uploads (bucket, key, upload_id);
CREATE INDEX uploads_by_age ON uploads (created);

CREATE TABLE parts (
    upload_id TEXT    NOT NULL REFERENCES uploads (upload_id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    token     TEXT    NOT NULL,
    size      INTEGER NOT NULL,
    etag      TEXT    NOT NULL,
    checksums TEXT    NOT NULL, -- JSON object of strings
    modified  INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE completed_uploads (
    upload_id TEXT    NOT NULL PRIMARY KEY,
    bucket    TEXT    NOT NULL REFERENCES buckets (name) ON DELETE CASCADE,
    key       TEXT    NOT NULL,
    request   TEXT    NOT NULL,
    etag      TEXT    NOT NULL,
    finished  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX completed_uploads_by_bucket ON completed_uploads (bucket);
CREATE INDEX completed_uploads_by_age ON completed_uploads (finished);

CREATE TABLE installation (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
