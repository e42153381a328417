//! The rows of identities. Times are milliseconds since the Unix epoch; what is `*_hash` is SHA-256 and stands for what is never stored.

use std::collections::BTreeMap;
use std::fmt;

/// An account: a tenant. It owns buckets, and users, groups, roles and policies of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The canonical id: 64 hexadecimal digits. Buckets name their owner by it.
    pub id: String,
    /// The account number as ARNs have it: 12 decimal digits, unique.
    pub number: String,
    /// The name, unique; shown as the display name.
    pub name: String,
    /// The operator of the installation: its own keys may do everything, to everybody's buckets too.
    pub root: bool,
    /// A suspended account is false: none of its credentials is good.
    pub active: bool,
    /// When it was created.
    pub created: i64,
}

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// Somebody with access keys.
    User,
    /// Users that share policies.
    Group,
    /// What is assumed for a while.
    Role,
}

impl EntityKind {
    /// As the store and an ARN write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Role => "role",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Group, Self::Role].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A policy, named where it is attached or where it bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRef {
    /// Its ARN.
    pub arn: String,
    /// The id of the managed policy, which cannot go while this refers to it; `None` for a policy that is part of the gateway.
    pub policy: Option<String>,
}

/// A user, a group or a role of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRecord {
    /// Its id, unique over all kinds and accounts, never used again; not its name.
    pub id: String,
    /// The id of its account.
    pub account: String,
    /// What it is.
    pub kind: EntityKind,
    /// Its path: `/`, or begins and ends with one.
    pub path: String,
    /// Its name: unique among those of its kind in the account, without regard to the case of ASCII letters.
    pub name: String,
    /// What it is for; empty for none.
    pub description: String,
    /// For a role: the policy that says who may assume it.
    pub trust: Option<String>,
    /// For a role: how long a session may last, in seconds; 0 for others.
    pub max_session_secs: u32,
    /// The policy that bounds what it may do.
    pub boundary: Option<PolicyRef>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was created.
    pub created: i64,
}

/// What makes an access key a service account: a key with a policy of its own, which only narrows what its owner may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// A name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The policy; `None`: as its owner.
    pub policy: Option<String>,
}

/// An access key of an account or of one of its users.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeyRecord {
    /// The public half.
    pub access_key: String,
    /// The secret half, sealed by `tokens`.
    pub sealed_secret: Vec<u8>,
    /// The account's id.
    pub account: String,
    /// The user's id; `None`: the key is the account's own.
    pub user: Option<String>,
    /// Whether it may be used.
    pub active: bool,
    /// When it ends by itself.
    pub expires: Option<i64>,
    /// Present for a service account.
    pub service: Option<ServiceAccount>,
    /// When it was created.
    pub created: i64,
    /// When it was last used, as far as it was noted.
    pub last_used: Option<i64>,
}

impl fmt::Debug for AccessKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeyRecord")
            .field("access_key", &self.access_key)
            .field("account", &self.account)
            .field("user", &self.user)
            .field("active", &self.active)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// How a session came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// `GetSessionToken`.
    SessionToken,
    /// `GetFederationToken`.
    Federated,
    /// `AssumeRole`.
    AssumedRole,
    /// `AssumeRoleWithWebIdentity`.
    WebIdentity,
}

impl SessionKind {
    /// As the store writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionToken => "session-token",
            Self::Federated => "federated",
            Self::AssumedRole => "assumed-role",
            Self::WebIdentity => "web-identity",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::SessionToken, Self::Federated, Self::AssumedRole, Self::WebIdentity].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Temporary credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The public half of the key.
    pub access_key: String,
    /// The secret half, sealed by `tokens`.
    pub sealed_secret: Vec<u8>,
    /// SHA-256 of the session token.
    pub token_hash: [u8; 32],
    /// The account's id.
    pub account: String,
    /// The id of the user or role that it acts as; `None`: the account itself.
    pub entity: Option<String>,
    /// How it came to be.
    pub kind: SessionKind,
    /// The name of the session, or of the federated user; empty for none.
    pub name: String,
    /// The session policy.
    pub policy: Option<String>,
    /// Managed policies as session policies, by ARN.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: BTreeMap<String, String>,
    /// What conditions may ask of it: source identity, the subject and audience of a web identity, the key that asked for it …
    pub context: BTreeMap<String, String>,
    /// When it began.
    pub issued: i64,
    /// When it ends.
    pub expires: i64,
}

impl fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecord")
            .field("access_key", &self.access_key)
            .field("account", &self.account)
            .field("entity", &self.entity)
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What a request signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRecord {
    /// A key that lasts.
    Lasting(AccessKeyRecord),
    /// A key that came with a session token.
    Temporary(SessionRecord),
}

/// All that the store knows of an access key, read in one moment. Nothing is filtered: the reader looks at activity, ends and revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRecord {
    /// The key.
    pub key: KeyRecord,
    /// Its account.
    pub account: AccountRecord,
    /// Whom it acts as; `None`: the account itself.
    pub entity: Option<EntityRecord>,
    /// Every revocation that names the key, its token, its entity or its account.
    pub revocations: Vec<RevocationRecord>,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// An access key, lasting or temporary, and all that was signed with it.
    Key(String),
    /// A session, by SHA-256 of its token.
    Token([u8; 32]),
    /// Presigned requests of an access key that were signed before the moment; the key goes on.
    Presigned(String),
    /// Sessions of a user or role that began before the moment.
    Sessions(String),
    /// Everything of an account that was signed or began before the moment.
    Account(String),
}

impl Revoked {
    /// As the store writes it.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Key(key) => format!("key:{key}"),
            Self::Token(hash) => format!("token:{}", hex::encode(hash)),
            Self::Presigned(key) => format!("presigned:{key}"),
            Self::Sessions(entity) => format!("sessions:{entity}"),
            Self::Account(account) => format!("account:{account}"),
        }
    }

    /// From what [`Self::to_text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let name_owned = || name.to_owned();
        match kind {
            "key" => Some(Self::Key(name_owned())),
            "token" => {
                let mut hash = [0; 32];
                hex::decode_to_slice(name, &mut hash).ok()?;
                Some(Self::Token(hash))
            }
            "presigned" => Some(Self::Presigned(name_owned())),
            "sessions" => Some(Self::Sessions(name_owned())),
            "account" => Some(Self::Account(name_owned())),
            _ => None,
        }
    }
}

/// A revocation. It is never taken back: a new key is cheaper than a doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRecord {
    /// What.
    pub what: Revoked,
    /// Refused is what was signed or began before this; for a key or a token everything, whatever the moment.
    pub before: i64,
    /// When it may be forgotten, because what it names has ended by itself; `None`: never.
    pub until: Option<i64>,
    /// Why, for people.
    pub reason: String,
}

/// A managed policy. Its documents are its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its id.
    pub id: String,
    /// The id of its account.
    pub account: String,
    /// Its path.
    pub path: String,
    /// Its name: unique in the account, without regard to the case of ASCII letters.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The version in force.
    pub default_version: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was created.
    pub created: i64,
    /// When a version was last created or put in force.
    pub updated: i64,
}

/// A version of a managed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersionRecord {
    /// Its number, from 1; never used again.
    pub version: u32,
    /// The policy.
    pub document: String,
    /// When it was created.
    pub created: i64,
}

/// How a policy is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyUse {
    /// Attached.
    Attached,
    /// As a boundary.
    Boundary,
}

/// A policy that applies to an entity, its own or by a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// The id of the user, group or role that it is attached to.
    pub holder: String,
    /// Where the policy is: in the holder under a name, or managed under an ARN.
    pub source: PolicySource,
    /// Attached, or as the boundary of the entity itself.
    pub usage: PolicyUse,
    /// The document in force; `None` for a policy that is part of the gateway.
    pub document: Option<String>,
}

/// Where a policy is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicySource {
    /// Inline, by name.
    Inline(String),
    /// Managed, by ARN.
    Managed(String),
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// An account; the subject is its id.
    Account,
    /// A user, group or role, its policies or its memberships; the subject is its id.
    Entity,
    /// A managed policy; the subject is its id.
    Policy,
    /// An access key, lasting or temporary; the subject is the key.
    Key,
    /// A revocation; the subject is [`Revoked::to_text`].
    Revocation,
    /// A named document of an account; the subject is the account's id.
    Document,
    /// A bucket, its mounts or its settings; the subject is its name.
    Bucket,
}

impl Topic {
    /// As the store writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Entity => "entity",
            Self::Policy => "policy",
            Self::Key => "key",
            Self::Revocation => "revocation",
            Self::Document => "document",
            Self::Bucket => "bucket",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Account, Self::Entity, Self::Policy, Self::Key, Self::Revocation, Self::Document, Self::Bucket]
            .into_iter()
            .find(|topic| topic.as_str() == text)
    }
}

/// A change that other gateways have to know of. What is new is not told: nobody can have cached it for longer than a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Grows with every change, in the order in which they became visible.
    pub number: i64,
    /// What it is about; `None`: something that this version does not know.
    pub topic: Option<Topic>,
    /// Which one.
    pub subject: String,
}

// === impl ===

impl ServiceAccount {
    pub(crate) fn to_fields(&self) -> BTreeMap<String, String> {
        let mut fields =
            BTreeMap::from([("name".to_owned(), self.name.clone()), ("description".to_owned(), self.description.clone())]);
        if let Some(policy) = &self.policy {
            fields.insert("policy".to_owned(), policy.clone());
        }
        fields
    }

    pub(crate) fn from_fields(mut fields: BTreeMap<String, String>) -> Self {
        Self {
            name: fields.remove("name").unwrap_or_default(),
            description: fields.remove("description").unwrap_or_default(),
            policy: fields.remove("policy"),
        }
    }
}

impl RevocationRecord {
    /// Whether a credential that began at this moment, and that the revocation names, is over for everything. A revocation of presigned
    /// requests ends none.
    #[must_use]
    pub fn ends(&self, began: i64) -> bool {
        match self.what {
            Revoked::Key(_) | Revoked::Token(_) => true,
            Revoked::Presigned(_) => false,
            Revoked::Sessions(_) | Revoked::Account(_) => began < self.before,
        }
    }
}
