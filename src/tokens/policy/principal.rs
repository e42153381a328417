//! Whom a statement is about.

use super::json::Json;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The canonical id of the account.
    pub id: &'a str,
    /// The name of the account.
    pub name: &'a str,
    /// The number of the account; empty when it has none.
    pub number: &'a str,
    /// As whom.
    pub acting: Acting<'a>,
}

/// As whom an account acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acting<'a> {
    /// As itself: with a key of its own.
    Account,
    /// As one of its users.
    User {
        /// The user's id.
        id: &'a str,
        /// The path: `/`, or begins and ends with one.
        path: &'a str,
        /// The name.
        name: &'a str,
    },
    /// As a role that was assumed.
    Role {
        /// The role's id.
        id: &'a str,
        /// The path of the role.
        path: &'a str,
        /// The name of the role.
        name: &'a str,
        /// The name of the session.
        session: &'a str,
    },
    /// As a federated user.
    Federated {
        /// The name that the session was given.
        name: &'a str,
    },
    /// As somebody whom an identity provider vouches for, who asks for a role.
    Web {
        /// The provider, as a trust policy names it.
        provider: &'a str,
        /// The subject.
        subject: &'a str,
    },
}

/// How closely a statement names the one who asks: it decides what else may stand in the way
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-single-account.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// By the account: it is the account's to pass it on.
    Account,
    /// By the role of a session: boundary and session policy still bind it.
    Role,
    /// The one who asks in person.
    Direct,
}

impl<'a> Principal<'a> {
    /// An account that acts as itself.
    #[must_use]
    pub const fn account(id: &'a str, name: &'a str, number: &'a str) -> Self {
        Self { id, name, number, acting: Acting::Account }
    }

    /// The ARN, as `GetCallerIdentity` shows it.
    #[must_use]
    pub fn arn(&self) -> String {
        let number = self.number;
        match self.acting {
            Acting::Account => format!("arn:aws:iam::{number}:root"),
            Acting::User { path, name, .. } => format!("arn:aws:iam::{number}:user{path}{name}"),
            Acting::Role { name, session, .. } => format!("arn:aws:sts::{number}:assumed-role/{name}/{session}"),
            Acting::Federated { name } => format!("arn:aws:sts::{number}:federated-user/{name}"),
            Acting::Web { provider, subject } => format!("{provider}:{subject}"),
        }
    }

    /// The id, as `aws:userid` has it.
    #[must_use]
    pub fn user_id(&self) -> String {
        match self.acting {
            Acting::Account => self.id.to_owned(),
            Acting::User { id, .. } => id.to_owned(),
            Acting::Role { id, session, .. } => format!("{id}:{session}"),
            Acting::Federated { name } => format!("{}:{name}", self.number),
            Acting::Web { provider, subject } => format!("{provider}:{subject}"),
        }
    }

    /// Whether a condition key, in lower case, is about the one who asks, so that nobody has to say its value.
    #[must_use]
    pub fn answers(&self, key: &str) -> bool {
        values(Some(*self), key).is_some()
    }

    fn is_account(&self, text: &str) -> bool {
        !text.is_empty() && (text == self.number || text == self.id || (text == self.name && !is_canonical_id(text)))
    }
}

/// What a condition key about the one who asks holds; `None` when the key is about something else.
pub(super) fn values(who: Option<Principal<'_>>, key: &str) -> Option<Vec<String>> {
    let some = |text: &str| vec![text.to_owned()];
    let Some(who) = who else {
        return match key {
            "aws:userid" => Some(some("anonymous")),
            "aws:principaltype" => Some(some("Anonymous")),
            "aws:username" | "aws:principalaccount" | "aws:principalarn" => Some(vec![]),
            _ => None,
        };
    };
    Some(match key {
        "aws:username" => match who.acting {
            Acting::Account => some(who.name),
            Acting::User { name, .. } => some(name),
            Acting::Role { .. } | Acting::Federated { .. } | Acting::Web { .. } => vec![],
        },
        "aws:userid" => vec![who.user_id()],
        // By its number and by its canonical id, which policies of buckets name it by.
        "aws:principalaccount" => [who.number, who.id].into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        "aws:principalarn" => match who.acting {
            // An account is also somebody of its name: the form that was there before users.
            Acting::Account => vec![who.arn(), format!("arn:aws:iam:::user/{}", who.name)],
            Acting::Role { path, name, .. } => vec![format!("arn:aws:iam::{}:role{path}{name}", who.number)],
            _ => vec![who.arn()],
        },
        "aws:principaltype" => some(match who.acting {
            Acting::Account => "Account",
            Acting::User { .. } => "User",
            Acting::Role { .. } => "AssumedRole",
            Acting::Federated { .. } | Acting::Web { .. } => "FederatedUser",
        }),
        _ => return None,
    })
}

/// One that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// Everybody, unsigned requests too.
    Everybody,
    /// An account by id, number or name.
    Account(String),
    /// `arn:aws:iam::ACCOUNT:user/PATH/NAME`: a user, or an account by its name.
    User { account: String, name: String },
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
    Role { account: String, name: String },
    /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`
    Session { account: String, role: String, session: String },
    /// `arn:aws:sts::ACCOUNT:federated-user/NAME`
    Federated { account: String, name: String },
    /// An identity provider.
    Provider(String),
    /// Something that never signs a request here: a service of AWS.
    Nobody,
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principals {
    named: Vec<Named>,
    /// `NotPrincipal`: everybody else.
    inverted: bool,
}

impl Principals {
    /// Reads `Principal` or, `inverted`, `NotPrincipal`; `Err` with what is wrong.
    pub(super) fn read(value: &Json, inverted: bool) -> Result<Self, String> {
        let mut named = Vec::new();
        match value {
            Json::Text(text) if text == "*" => named.push(Named::Everybody),
            Json::Object(fields) if !fields.is_empty() => {
                for (kind, values) in fields {
                    for value in values.many() {
                        let Json::Text(text) = value else { return Err(invalid()) };
                        named.push(read_one(kind, text)?);
                    }
                }
            }
            _ => return Err(invalid()),
        }
        if named.is_empty() {
            return Err(invalid());
        }
        Ok(Self { named, inverted })
    }

    /// Whether it is about this sender (`None`: nobody signed), and how closely.
    pub(super) fn reach(&self, sender: Option<Principal<'_>>) -> Option<Reach> {
        let found = self.named.iter().filter_map(|named| named.reach(sender)).max();
        if self.inverted { found.is_none().then_some(Reach::Account) } else { found }
    }

    /// Whether it is about everybody.
    pub(super) fn are_everybody(&self) -> bool {
        self.inverted || self.named.contains(&Named::Everybody)
    }
}

impl Named {
    fn reach(&self, sender: Option<Principal<'_>>) -> Option<Reach> {
        let Some(who) = sender else { return (*self == Self::Everybody).then_some(Reach::Direct) };
        let full = |path: &str, name: &str| format!("{}{name}", path.trim_start_matches('/'));
        // An account that is named is meant in person when it acts as itself.
        let account = if who.acting == Acting::Account { Reach::Direct } else { Reach::Account };
        match (self, who.acting) {
            // Everybody is meant in person, but a session stays within its bounds.
            (Self::Everybody, Acting::Account | Acting::User { .. }) => Some(Reach::Direct),
            (Self::Everybody, _) => Some(Reach::Role),
            (Self::Provider(wanted), Acting::Web { provider, .. }) => (wanted == provider).then_some(Reach::Direct),
            // Who has no credentials yet is of no account.
            (_, Acting::Web { .. }) => None,
            (Self::Account(named), _) => who.is_account(named).then_some(account),
            (Self::User { account: of, name }, acting) => {
                if let Acting::User { path, name: own, .. } = acting
                    && who.is_account(of)
                    && *name == full(path, own)
                {
                    return Some(Reach::Direct);
                }
                // The number of another account is never this one.
                let other = is_number(of) && of != who.number;
                let named = name.rsplit('/').next().unwrap_or_default();
                (!other && !named.is_empty() && named != who.number && who.is_account(named)).then_some(account)
            }
            (Self::Role { account: of, name }, Acting::Role { path, name: own, .. }) => {
                (who.is_account(of) && *name == full(path, own)).then_some(Reach::Role)
            }
            (Self::Session { account: of, role, session }, Acting::Role { name, session: own, .. }) => {
                (who.is_account(of) && role == name && session == own).then_some(Reach::Direct)
            }
            (Self::Federated { account: of, name }, Acting::Federated { name: own }) => {
                (who.is_account(of) && name == own).then_some(Reach::Direct)
            }
            _ => None,
        }
    }
}

/// Whether a text is a canonical id: whoever has another's id as a name is not meant by it.
fn is_canonical_id(text: &str) -> bool {
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())) || is_number(text)
}

/// Whether a text is the number of an account.
fn is_number(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn invalid() -> String {
    "Invalid principal in policy".to_owned()
}

fn read_one(kind: &str, text: &str) -> Result<Named, String> {
    match kind {
        "AWS" if text == "*" => Ok(Named::Everybody),
        "AWS" | "CanonicalUser" if text.is_empty() || text.contains(['*', '?']) => Err(invalid()),
        "AWS" if text.starts_with("arn:") => read_arn(text).ok_or_else(invalid),
        "AWS" | "CanonicalUser" => Ok(Named::Account(text.to_owned())),
        "Federated" if !text.is_empty() => Ok(Named::Provider(text.to_owned())),
        // The services of AWS never sign a request here.
        "Service" if !text.is_empty() => Ok(Named::Nobody),
        _ => Err(invalid()),
    }
}

fn read_arn(text: &str) -> Option<Named> {
    let mut parts = text.splitn(6, ':').skip(1);
    let (_partition, service, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (account, resource) = (parts.next()?.to_owned(), parts.next()?);
    if !region.is_empty() {
        return None;
    }
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    let last = name.rsplit('/').next().filter(|last| !last.is_empty());
    let name_owned = || name.to_owned();
    match (service, kind) {
        ("iam", "root") if name.is_empty() && !account.is_empty() => Some(Named::Account(account)),
        ("iam", "user") => last.map(|_| Named::User { account, name: name_owned() }),
        ("iam", "role") => last.map(|_| Named::Role { account, name: name_owned() }),
        ("sts", "assumed-role") => match name.split_once('/') {
            Some((role, session)) => Some(Named::Session { account, role: role.to_owned(), session: session.to_owned() }),
            None => last.map(|_| Named::Nobody),
        },
        ("sts", "federated-user") => last.map(|_| Named::Federated { account, name: name_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const ANN: Principal<'_> = Principal::account("abc1", "ann", "111122223333");

    fn principals(json: &str) -> Result<Principals, String> {
        Principals::read(&serde_json::from_str(json).unwrap(), false)
    }

    #[test]
    fn identities_are_meant_by_id_or_name() {
        for (json, signed, unsigned) in [
            (r#""*""#, true, true),
            (r#"{"AWS":"*"}"#, true, true),
            (r#"{"AWS":["x","*"]}"#, true, true),
            (r#"{"AWS":"ann"}"#, true, false),
            (r#"{"AWS":"abc1"}"#, true, false),
            (r#"{"AWS":"111122223333"}"#, true, false),
            (r#"{"CanonicalUser":"abc1"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam:::user/ann"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::tenant:user/abc1"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::1:user/a/path/ann"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::111122223333:user/ann"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::999922223333:user/ann"}"#, false, false),
            (r#"{"AWS":"arn:aws:iam::abc1:root"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::ann:root"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::111122223333:root"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::bob:root"}"#, false, false),
            (r#"{"AWS":"arn:aws:iam:::user/anna"}"#, false, false),
            (r#"{"AWS":"arn:aws:iam::1:role/ann"}"#, false, false),
            (r#"{"Service":"ann"}"#, false, false),
            (r#"{"Federated":"ann"}"#, false, false),
        ] {
            let principals = principals(json).unwrap();
            let included = |who| principals.reach(who).is_some();
            assert_eq!((included(Some(ANN)), included(None)), (signed, unsigned), "{json}");
        }
        let others = Principals::read(&serde_json::from_str(r#"{"AWS":"ann"}"#).unwrap(), true).unwrap();
        assert!(others.reach(Some(ANN)).is_none() && others.reach(None).is_some());
        let id = "a".repeat(64);
        let by_id = principals(&format!(r#"{{"AWS":"{id}"}}"#)).unwrap();
        assert!(by_id.reach(Some(Principal::account(&id, "x", ""))).is_some());
        assert!(by_id.reach(Some(Principal::account("b", &id, ""))).is_none(), "a name is no id");
        let by_number = principals(r#"{"AWS":"111122223333"}"#).unwrap();
        assert!(by_number.reach(Some(Principal::account("b", "111122223333", "5"))).is_none(), "a name is no number");
    }

    #[test]
    fn how_closely_somebody_is_named() {
        let user = Principal { acting: Acting::User { id: "U", path: "/team/", name: "eve" }, ..ANN };
        let role = Principal { acting: Acting::Role { id: "R", path: "/", name: "deploy", session: "s1" }, ..ANN };
        let federated = Principal { acting: Acting::Federated { name: "fred" }, ..ANN };
        let web = Principal { acting: Acting::Web { provider: "idp", subject: "x" }, ..ANN };
        for (who, json, want) in [
            (user, r#""*""#, Some(Reach::Direct)),
            (user, r#"{"AWS":"111122223333"}"#, Some(Reach::Account)),
            (user, r#"{"AWS":"arn:aws:iam::111122223333:root"}"#, Some(Reach::Account)),
            (user, r#"{"AWS":"arn:aws:iam::111122223333:user/team/eve"}"#, Some(Reach::Direct)),
            (user, r#"{"AWS":"arn:aws:iam::111122223333:user/eve"}"#, None),
            (user, r#"{"AWS":"arn:aws:iam::111122224444:user/team/eve"}"#, None),
            (user, r#"{"AWS":"arn:aws:iam:::user/ann"}"#, Some(Reach::Account)),
            (ANN, r#"{"AWS":"arn:aws:iam:::user/ann"}"#, Some(Reach::Direct)),
            (role, r#""*""#, Some(Reach::Role)),
            (role, r#"{"AWS":"arn:aws:iam::111122223333:role/deploy"}"#, Some(Reach::Role)),
            (role, r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/deploy/s1"}"#, Some(Reach::Direct)),
            (role, r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/deploy/s2"}"#, None),
            (role, r#"{"AWS":"arn:aws:iam::111122223333:user/deploy"}"#, None),
            (federated, r#"{"AWS":"arn:aws:sts::111122223333:federated-user/fred"}"#, Some(Reach::Direct)),
            (federated, r#"{"AWS":"abc1"}"#, Some(Reach::Account)),
            (web, r#"{"Federated":"idp"}"#, Some(Reach::Direct)),
            (web, r#"{"AWS":"abc1"}"#, None),
        ] {
            assert_eq!(principals(json).unwrap().reach(Some(who)), want, "{who:?} {json}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for json in [
            r#""ann""#,
            "{}",
            "[]",
            r#"{"AWS":[]}"#,
            r#"{"AWS":""}"#,
            r#"{"AWS":1}"#,
            r#"{"aws":"*"}"#,
            r#"{"AWS":"arn:aws:iam::*:user/ann"}"#,
            r#"{"AWS":"arn:aws:iam:::root"}"#,
            r#"{"AWS":"arn:aws:iam:::group/x"}"#,
            r#"{"AWS":"arn:aws:iam:::user/"}"#,
            r#"{"AWS":"arn:aws:s3:::bucket"}"#,
            r#"{"CanonicalUser":"*"}"#,
        ] {
            assert!(principals(json).is_err(), "{json}");
        }
    }
}
