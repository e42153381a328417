//! The statements. All are constants, so that each is prepared once per connection and none is built from input.
//!
//! Upper bounds of prefix ranges are bound as text, or as an empty blob for "no bound": SQLite sorts every text before every blob
//! (<https://www.sqlite.org/datatype3.html#sort_order>), so one statement serves both and stays a range scan of its index.

pub(super) const CREATE_BUCKET: &str =
    "INSERT INTO buckets (name, owner, created, location) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
pub(super) const BUCKET: &str = "SELECT name, owner, created, location FROM buckets WHERE name = ?1";
pub(super) const BUCKETS: &str =
    "SELECT name, owner, created, location FROM buckets WHERE name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3";
pub(super) const BUCKETS_OF_OWNER: &str =
    "SELECT name, owner, created, location FROM buckets WHERE owner = ?4 AND name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3";
pub(super) const DELETE_BUCKET: &str = "DELETE FROM buckets WHERE name = ?1";

pub(super) const SET_BUCKET_SETTING: &str = "INSERT INTO bucket_settings (bucket, name, document) \
     SELECT name, ?2, ?3 FROM buckets WHERE name = ?1 \
     ON CONFLICT (bucket, name) DO UPDATE SET document = excluded.document";
pub(super) const DELETE_BUCKET_SETTING: &str = "DELETE FROM bucket_settings WHERE bucket = ?1 AND name = ?2";
pub(super) const BUCKET_SETTINGS: &str = "SELECT name, document FROM bucket_settings WHERE bucket = ?1 ORDER BY name";

pub(super) const ADD_MOUNT: &str =
    "INSERT INTO mounts (bucket, prefix, provider, settings) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
pub(super) const MOUNTS: &str = "SELECT bucket, prefix, provider, settings FROM mounts WHERE bucket = ?1 ORDER BY prefix";
pub(super) const REMOVE_MOUNT: &str = "DELETE FROM mounts WHERE bucket = ?1 AND prefix = ?2";

pub(super) const CREATE_UPLOAD: &str = "INSERT INTO uploads (upload_id, bucket, key, mount_prefix, initiator, created, attributes, \
     checksum_algorithm, checksum_type) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
pub(super) const UPLOAD: &str = "SELECT upload_id, bucket, key, mount_prefix, initiator, created, attributes, checksum_algorithm, \
     checksum_type FROM uploads WHERE upload_id = ?2 AND bucket = ?1";
/// A row value comparison, so that the page begins with a seek in the index.
pub(super) const UPLOADS: &str = "SELECT upload_id, bucket, key, mount_prefix, initiator, created, attributes, checksum_algorithm, \
     checksum_type FROM uploads WHERE bucket = ?1 AND (key, upload_id) > (?2, ?3) AND key < ?4 ORDER BY key, upload_id LIMIT ?5";
pub(super) const UPLOADS_BEFORE: &str = "SELECT upload_id, bucket, key, mount_prefix, initiator, created, attributes, \
     checksum_algorithm, checksum_type FROM uploads WHERE created < ?1 ORDER BY created LIMIT ?2";
pub(super) const DELETE_UPLOAD: &str = "DELETE FROM uploads WHERE upload_id = ?1";

pub(super) const PART: &str =
    "SELECT number, token, size, etag, checksums, modified FROM parts WHERE upload_id = ?1 AND number = ?2";
pub(super) const PUT_PART: &str = "INSERT INTO parts (upload_id, number, token, size, etag, checksums, modified) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (upload_id, number) DO UPDATE SET token = excluded.token, \
     size = excluded.size, etag = excluded.etag, checksums = excluded.checksums, modified = excluded.modified";
pub(super) const PARTS: &str = "SELECT number, token, size, etag, checksums, modified FROM parts \
     WHERE upload_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3";

pub(super) const REMEMBER_COMPLETED: &str = "INSERT INTO completed_uploads (upload_id, bucket, key, request, etag, finished) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (upload_id) DO UPDATE SET bucket = excluded.bucket, key = excluded.key, \
     request = excluded.request, etag = excluded.etag, finished = excluded.finished";
pub(super) const COMPLETED: &str =
    "SELECT key, request, etag FROM completed_uploads WHERE upload_id = ?2 AND bucket = ?1 AND finished > ?3";
/// Bounded, so that one Complete never pays for a long backlog.
pub(super) const FORGET_COMPLETED: &str = "DELETE FROM completed_uploads WHERE upload_id IN \
     (SELECT upload_id FROM completed_uploads WHERE finished <= ?1 ORDER BY finished LIMIT 100)";

pub(super) const VALUE: &str = "SELECT value FROM installation WHERE name = ?1";
pub(super) const REPLACE_VALUE: &str = "UPDATE installation SET value = ?3 WHERE name = ?1 AND value = ?2";
/// The update changes nothing and is there for RETURNING, which a conflict that does nothing would leave empty.
pub(super) const VALUE_OR_INSERT: &str = "INSERT INTO installation (name, value) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET value = value RETURNING value";

/// So many names at once: [`OVERLAY_NAMES`](crate::meta::both::OVERLAY_NAMES).
pub(super) const OVERLAY: &str = "SELECT name, document FROM overlay WHERE space = ?1 AND name IN (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
     ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33)";
pub(super) const ADD_OVERLAY: &str = "INSERT INTO overlay (space, name, document) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
pub(super) const REPLACE_OVERLAY: &str = "UPDATE overlay SET document = ?4 WHERE space = ?1 AND name = ?2 AND document = ?3";
pub(super) const REMOVE_OVERLAY: &str = "DELETE FROM overlay WHERE space = ?1 AND name = ?2 AND document = ?3";

/// Reads the file, which a bare `SELECT 1` would not.
pub(super) const CHECK: &str = "SELECT count(*) FROM installation";
