//! Who there is: accounts, their users, groups and roles, keys, sessions, policies, and what was revoked.
//!
//! The statements and the code that runs them are one text for all databases ([`store`]), so that they cannot drift apart; a database
//! brings its types and its transactions.
//!
//! Every change of something that a gateway may have cached is told in the same transaction ([`IdentityStore::changes`]).

mod records;
pub(super) mod rows;
pub(super) mod sql;
pub(super) mod steps;
pub(super) mod store;
#[cfg(test)]
pub(crate) mod suite;

use async_trait::async_trait;

use crate::error::Result;

pub use records::{
    AccessKeyRecord, AccountRecord, AppliedPolicy, ChangeRecord, CredentialRecord, EntityKind, EntityRecord, KeyRecord,
    PolicyRecord, PolicyRef, PolicySource, PolicyUse, PolicyVersionRecord, RevocationRecord, Revoked, ServiceAccount,
    SessionKind, SessionRecord, Topic,
};

/// The identities of the store. Every method is one transaction. Errors: `MetaUnavailable` when the database fails; others as named.
///
/// Lists are pages: at most `limit` of those after `after`, in the order of what `after` names. Names of entities and policies are
/// compared without regard to the case of ASCII letters, and lists of them are ordered in that way.
#[async_trait]
pub trait IdentityStore: Send + Sync {
    // === accounts ===

    /// Creates an account.
    ///
    /// # Errors
    /// `EntityExists` when the id, the number or the name is taken.
    async fn create_account(&self, account: &AccountRecord) -> Result<()>;
    /// One account by id.
    async fn account(&self, id: &str) -> Result<Option<AccountRecord>>;
    /// One account by its number.
    async fn account_by_number(&self, number: &str) -> Result<Option<AccountRecord>>;
    /// One account by name.
    async fn account_by_name(&self, name: &str) -> Result<Option<AccountRecord>>;
    /// Accounts in name order, after a name.
    async fn accounts(&self, after: &str, limit: usize) -> Result<Vec<AccountRecord>>;
    /// Suspends an account, or lets it go on. False when there is none.
    async fn set_account_active(&self, id: &str, active: bool) -> Result<bool>;
    /// Removes an account; false when there was none.
    ///
    /// # Errors
    /// `DeleteConflict` when it still has a bucket, an entity, a key or a policy. Its sessions and documents go with it.
    async fn delete_account(&self, id: &str) -> Result<bool>;
    /// Whether any root account has a key of its own that is active.
    async fn has_root_key(&self) -> Result<bool>;

    /// Replaces `from` by `to` as a named document of an account, such as an OpenID Connect provider; `None` is no document. False when what
    /// is there is not `from`, or there is no such account: look again and try again.
    async fn set_account_document(
        &self,
        account: &str,
        kind: &str,
        name: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<bool>;
    /// All documents of a kind of an account: name and text, in name order.
    async fn account_documents(&self, account: &str, kind: &str) -> Result<Vec<(String, String)>>;

    // === users, groups, roles ===

    /// Creates a user, a group or a role.
    ///
    /// # Errors
    /// `EntityExists` when the id or the name is taken, `NoSuchEntity` when there is no such account or boundary.
    async fn create_entity(&self, entity: &EntityRecord) -> Result<()>;
    /// One by id.
    async fn entity(&self, id: &str) -> Result<Option<EntityRecord>>;
    /// One by name.
    async fn entity_named(&self, account: &str, kind: EntityKind, name: &str) -> Result<Option<EntityRecord>>;
    /// Those of a kind whose path begins with `path`, after a name.
    async fn entities(&self, account: &str, kind: EntityKind, path: &str, after: &str, limit: usize)
    -> Result<Vec<EntityRecord>>;
    /// Replaces `from` by `to`, which must be of the same id, account and kind. False when what is there is not `from`, or no more: look
    /// again and try again.
    ///
    /// # Errors
    /// `EntityExists` when the new name is taken, `NoSuchEntity` when there is no such boundary.
    async fn update_entity(&self, from: &EntityRecord, to: &EntityRecord) -> Result<bool>;
    /// Removes one; false when there was none. Its sessions go with it.
    ///
    /// # Errors
    /// `DeleteConflict` when it still has a key, a policy, a member or a group.
    async fn delete_entity(&self, id: &str) -> Result<bool>;

    /// Puts a user into a group of the same account; nothing happens when it is there.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    async fn add_member(&self, group: &str, user: &str) -> Result<()>;
    /// Takes a user out of a group; false when it was not in it.
    async fn remove_member(&self, group: &str, user: &str) -> Result<bool>;
    /// The users of a group, after a name.
    async fn members(&self, group: &str, after: &str, limit: usize) -> Result<Vec<EntityRecord>>;
    /// The groups of a user, after a name.
    async fn groups_of(&self, user: &str, after: &str, limit: usize) -> Result<Vec<EntityRecord>>;

    // === keys ===

    /// Adds an access key.
    ///
    /// # Errors
    /// `EntityExists` when the access key is taken or was revoked, `NoSuchEntity` when there is no such account, or no such user in it.
    async fn create_access_key(&self, key: &AccessKeyRecord) -> Result<()>;
    /// Adds many access keys in one transaction: all or none.
    ///
    /// # Errors
    /// As [`Self::create_access_key`].
    async fn create_access_keys(&self, keys: &[AccessKeyRecord]) -> Result<()>;
    /// One access key.
    async fn access_key(&self, access_key: &str) -> Result<Option<AccessKeyRecord>>;
    /// Access keys of all accounts, after a key.
    async fn access_keys(&self, after: &str, limit: usize) -> Result<Vec<AccessKeyRecord>>;
    /// Access keys of a user, or, for `None`, the account's own, after a key.
    async fn access_keys_of(&self, account: &str, user: Option<&str>, after: &str, limit: usize) -> Result<Vec<AccessKeyRecord>>;
    /// Changes activity, end and service account of a key to those of `key`. False when there is none.
    async fn update_access_key(&self, key: &AccessKeyRecord) -> Result<bool>;
    /// Removes an access key; false when there was none.
    async fn delete_access_key(&self, access_key: &str) -> Result<bool>;
    /// Notes when keys were last used; the later moment counts. No change is told.
    async fn note_key_use(&self, used: &[(String, i64)]) -> Result<()>;

    // === sessions ===

    /// Begins a session.
    ///
    /// # Errors
    /// `EntityExists` when the access key or the token is taken, `NoSuchEntity` when there is no such account or entity.
    async fn create_session(&self, session: &SessionRecord) -> Result<()>;
    /// Begins a session in place of the one with this token, which is over from then on. False, and nothing happens, when there is no such
    /// token, when it, its key, its entity's sessions or its account is revoked, or when it ended before `ended_after`.
    ///
    /// # Errors
    /// As [`Self::create_session`].
    async fn renew_session(&self, token_hash: &[u8; 32], ended_after: i64, session: &SessionRecord) -> Result<bool>;
    /// The session of a token.
    async fn session(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRecord>>;
    /// All that is to know of an access key, lasting or temporary.
    async fn credential(&self, access_key: &str) -> Result<Option<CredentialRecord>>;

    /// Revokes. A second revocation of the same takes the later moments.
    async fn revoke(&self, revocation: &RevocationRecord) -> Result<()>;
    /// Revocations, after the text of one.
    async fn revocations(&self, after: &str, limit: usize) -> Result<Vec<RevocationRecord>>;

    // === policies ===

    /// Sets an inline policy of an entity.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    async fn put_inline_policy(&self, entity: &str, name: &str, document: &str) -> Result<()>;
    /// The inline policies of an entity: name and text, in name order.
    async fn inline_policies(&self, entity: &str) -> Result<Vec<(String, String)>>;
    /// Removes an inline policy; false when there was none.
    async fn delete_inline_policy(&self, entity: &str, name: &str) -> Result<bool>;

    /// Creates a managed policy with its first version, which is number 1 whatever the record says.
    ///
    /// # Errors
    /// `EntityExists` when the id or the name is taken, `NoSuchEntity` when there is no such account.
    async fn create_policy(&self, policy: &PolicyRecord, document: &str) -> Result<()>;
    /// One by id.
    async fn policy(&self, id: &str) -> Result<Option<PolicyRecord>>;
    /// One by name.
    async fn policy_named(&self, account: &str, name: &str) -> Result<Option<PolicyRecord>>;
    /// Those whose path begins with `path`, after a name.
    async fn policies(&self, account: &str, path: &str, after: &str, limit: usize) -> Result<Vec<PolicyRecord>>;
    /// Replaces the tags; false when there is no such policy.
    async fn set_policy_tags(&self, id: &str, tags: &std::collections::BTreeMap<String, String>) -> Result<bool>;
    /// Removes a managed policy with its versions; false when there was none.
    ///
    /// # Errors
    /// `DeleteConflict` when it is attached or is a boundary.
    async fn delete_policy(&self, id: &str) -> Result<bool>;
    /// Adds a version, and puts it in force when `default`. Answers its number.
    ///
    /// # Errors
    /// `NoSuchEntity`; `LimitExceeded` when there are `most` versions.
    async fn add_policy_version(&self, id: &str, document: &str, created: i64, default: bool, most: usize) -> Result<u32>;
    /// All versions, newest first.
    async fn policy_versions(&self, id: &str) -> Result<Vec<PolicyVersionRecord>>;
    /// Puts a version in force; false when there is none.
    async fn set_default_policy_version(&self, id: &str, version: u32, updated: i64) -> Result<bool>;
    /// Removes a version; false when there was none.
    ///
    /// # Errors
    /// `DeleteConflict` when it is in force.
    async fn delete_policy_version(&self, id: &str, version: u32) -> Result<bool>;

    /// Attaches a policy; nothing happens when it is attached.
    ///
    /// # Errors
    /// `NoSuchEntity` when there is no such entity or policy.
    async fn attach_policy(&self, entity: &str, policy: &PolicyRef) -> Result<()>;
    /// Detaches a policy; false when it was not attached.
    async fn detach_policy(&self, entity: &str, arn: &str) -> Result<bool>;
    /// The policies attached to an entity itself, in the order of their ARNs.
    async fn attached_policies(&self, entity: &str) -> Result<Vec<PolicyRef>>;
    /// The entities of an account that use a policy, after the id of one. An entity comes twice when it uses it in both ways.
    async fn policy_users(&self, account: &str, arn: &str, after: &str, limit: usize) -> Result<Vec<(EntityRecord, PolicyUse)>>;
    /// Every policy that applies to a user or role: its own, those of its groups, and its boundary.
    async fn applied_policies(&self, entity: &str) -> Result<Vec<AppliedPolicy>>;

    // === the master key ===

    /// Sealed secrets of keys and sessions in the order of their access keys, after one.
    async fn sealed_secrets(&self, after: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>>;
    /// Replaces a sealed secret if it is still `from`; false when it is not. No change is told: the secret is the same.
    async fn reseal(&self, access_key: &str, from: &[u8], to: &[u8]) -> Result<bool>;

    // === changes ===

    /// The number of the last change; 0 when there was none.
    async fn last_change(&self) -> Result<i64>;
    /// Changes after a number, in order. One that was made more than [`CHANGES_KEPT_SECS`] ago may be missing.
    async fn changes(&self, after: i64, limit: usize) -> Result<Vec<ChangeRecord>>;
    /// Resolves when there may be changes, or after `at_most`.
    async fn changed(&self, at_most: std::time::Duration);
    /// Forgets sessions and revocations that ended before `ended_before`, and changes that are old. A bounded number at a time; answers how many.
    async fn forget_ended(&self, ended_before: i64) -> Result<u64>;
}

/// How long a change is kept, in seconds. A gateway that heard nothing for longer than this must forget all that it cached.
pub const CHANGES_KEPT_SECS: u64 = 24 * 60 * 60;
