//! Whom a statement is about.

use super::json::Json;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The canonical id.
    pub id: &'a str,
    /// The name.
    pub name: &'a str,
}

impl Principal<'_> {
    /// The ARN: `arn:aws:iam:::user/NAME`.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:iam:::user/{}", self.name)
    }
}

/// One that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// Everybody, unsigned requests too.
    Everybody,
    /// An identity by id or name.
    Identity(String),
    /// Something that never signs a request here: a role, a service, an identity provider.
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

    /// Whether it is about this sender (`None`: nobody signed).
    pub(super) fn include(&self, sender: Option<Principal<'_>>) -> bool {
        let is_named = self.named.iter().any(|named| match named {
            Named::Everybody => true,
            Named::Identity(who) => sender.is_some_and(|s| s.id == *who || (s.name == *who && !is_canonical_id(who))),
            Named::Nobody => false,
        });
        is_named != self.inverted
    }

    /// Whether it is about everybody.
    pub(super) fn are_everybody(&self) -> bool {
        self.inverted || self.named.contains(&Named::Everybody)
    }
}

/// Whether a text is a canonical id: whoever has another's id as a name is not meant by it.
fn is_canonical_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn invalid() -> String {
    "Invalid principal in policy".to_owned()
}

fn read_one(kind: &str, text: &str) -> Result<Named, String> {
    match kind {
        "AWS" if text == "*" => Ok(Named::Everybody),
        "AWS" | "CanonicalUser" if text.is_empty() || text.contains(['*', '?']) => Err(invalid()),
        "AWS" if text.starts_with("arn:") => read_arn(text).ok_or_else(invalid),
        "AWS" | "CanonicalUser" => Ok(Named::Identity(text.to_owned())),
        // Who logs in elsewhere, and the services of AWS, never sign a request here.
        "Federated" | "Service" if !text.is_empty() => Ok(Named::Nobody),
        _ => Err(invalid()),
    }
}

fn read_arn(text: &str) -> Option<Named> {
    let mut parts = text.splitn(6, ':').skip(1);
    let (_partition, service, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (account, resource) = (parts.next()?, parts.next()?);
    if !region.is_empty() {
        return None;
    }
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    match (service, kind) {
        ("iam", "root") if name.is_empty() && !account.is_empty() => Some(Named::Identity(account.to_owned())),
        // A user may stand in a path, which does not belong to the name.
        ("iam", "user") => Some(Named::Identity(name.rsplit('/').next().filter(|n| !n.is_empty())?.to_owned())),
        ("iam", "role") | ("sts", "assumed-role" | "federated-user") if !name.is_empty() => Some(Named::Nobody),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const ANN: Principal<'_> = Principal { id: "abc1", name: "ann" };

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
            (r#"{"CanonicalUser":"abc1"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam:::user/ann"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::tenant:user/abc1"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::1:user/a/path/ann"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::abc1:root"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::ann:root"}"#, true, false),
            (r#"{"AWS":"arn:aws:iam::bob:root"}"#, false, false),
            (r#"{"AWS":"arn:aws:iam:::user/anna"}"#, false, false),
            (r#"{"AWS":"arn:aws:iam::1:role/ann"}"#, false, false),
            (r#"{"Service":"ann"}"#, false, false),
        ] {
            let principals = principals(json).unwrap();
            assert_eq!((principals.include(Some(ANN)), principals.include(None)), (signed, unsigned), "{json}");
        }
        let others = Principals::read(&serde_json::from_str(r#"{"AWS":"ann"}"#).unwrap(), true).unwrap();
        assert!(!others.include(Some(ANN)) && others.include(None));
        let id = "a".repeat(64);
        let by_id = principals(&format!(r#"{{"AWS":"{id}"}}"#)).unwrap();
        assert!(by_id.include(Some(Principal { id: &id, name: "x" })));
        assert!(!by_id.include(Some(Principal { id: "b", name: &id })), "a name is no id");
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
