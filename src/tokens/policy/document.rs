//! The document, and what it decides.

use std::fmt;

use super::condition::Condition;
use super::json::Json;
use super::operator::{Operator, Value};
use super::pattern::{Pattern, Reading};
use super::principal::{self, Principal, Principals, Reach};
use super::resource::{Resource, Target};
use super::vocabulary;

/// The largest document in bytes (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html>).
pub const MAX_BYTES: usize = 20 * 1024;

/// A policy: of a bucket, of an identity, or of a role about who may assume it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// What a policy is attached to, which decides what may stand in it.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// This bucket: it names principals, and resources of the bucket.
    Bucket(&'a str),
    /// A user, group, role or session: it names no principals, and anything.
    Identity,
    /// A role: it names principals, and is about the role itself.
    Trust,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) allows: bool,
    /// `None` in the policy of an identity, which is about whom it is attached to.
    pub(super) principals: Option<Principals>,
    actions: Patterns,
    /// `None` in a trust policy, which is about its role.
    resources: Option<Resources>,
    pub(super) conditions: Vec<Condition>,
}

/// Patterns of which one must fit or, `inverted`, none.
#[derive(Clone, Debug, PartialEq)]
struct Patterns {
    any: Vec<Pattern>,
    inverted: bool,
}

/// Resources of which one must fit or, `inverted`, none.
#[derive(Clone, Debug, PartialEq)]
struct Resources {
    any: Vec<Resource>,
    inverted: bool,
}

/// Why a document is no policy: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The place, such as `Statement[0].Condition.StringEquals`; empty for the document as a whole.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.reason),
            place => write!(f, "{} ({place})", self.reason),
        }
    }
}

impl std::error::Error for Malformed {}

/// What is asked of a policy.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks; `None` when nobody signed.
    pub principal: Option<Principal<'a>>,
    /// The action, such as `s3:GetObject`.
    pub action: &'a str,
    /// What it is about.
    pub resource: Target<'a>,
    /// The values of a condition key, whose name is in lower case; none when the request has no such key. Keys about the principal
    /// are answered by the policy itself.
    pub values: &'a (dyn Fn(&str) -> Vec<String> + Sync),
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, action, resource, values: _ } = self;
        f.debug_struct("Request")
            .field("principal", principal)
            .field("action", action)
            .field("resource", resource)
            .finish_non_exhaustive()
    }
}

/// What a policy says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement forbids it, whatever anything else says.
    Deny,
    /// A statement allows it, and none forbids it.
    Allow,
    /// No statement is about it.
    Silent,
}

/// What the policy of a resource says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It forbids it.
    Deny,
    /// It allows it, to somebody named as closely as this.
    Allow(Reach),
    /// Nothing.
    Silent,
}

impl From<Said> for Decision {
    fn from(said: Said) -> Self {
        match said {
            Said::Deny => Self::Deny,
            Said::Allow(_) => Self::Allow,
            Said::Silent => Self::Silent,
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Reads the policy of a bucket.
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not understood or cannot be about this bucket.
    pub fn parse(text: &str, bucket: &str) -> Result<Self, Malformed> {
        Self::read(text, Holder::Bucket(bucket))
    }

    /// Reads the policy of an identity: attached, inline, a boundary or a session policy.
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not understood.
    pub fn parse_identity(text: &str) -> Result<Self, Malformed> {
        Self::read(text, Holder::Identity)
    }

    /// Reads the policy of a role about who may assume it.
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not understood.
    pub fn parse_trust(text: &str) -> Result<Self, Malformed> {
        Self::read(text, Holder::Trust)
    }

    /// The policy that forbids everything: what stands for a document that cannot be read.
    #[must_use]
    pub fn forbidding() -> Self {
        let actions = Patterns { any: Vec::new(), inverted: true };
        let resources = Some(Resources { any: vec![Resource::Anything], inverted: false });
        Self { statements: vec![Statement { allows: false, principals: None, actions, resources, conditions: Vec::new() }] }
    }

    fn read(text: &str, holder: Holder<'_>) -> Result<Self, Malformed> {
        let whole = |reason: String| Malformed { place: String::new(), reason };
        if text.len() > MAX_BYTES {
            return Err(whole(format!("Policy exceeds the maximum allowed document size of {MAX_BYTES} bytes")));
        }
        let json: Json = serde_json::from_str(text).map_err(|error| whole(format!("Policies must be valid JSON: {error}")))?;
        let Json::Object(fields) = &json else { return Err(whole("Policies must be a JSON object".to_owned())) };
        let mut variables = false;
        let mut statements = None;
        for (name, value) in fields {
            let wrong = |reason: &str| Malformed { place: name.clone(), reason: reason.to_owned() };
            match (name.as_str(), value) {
                ("Version", Json::Text(version)) if version == "2012-10-17" => variables = true,
                ("Version", Json::Text(version)) if version == "2008-10-17" => {}
                ("Version", _) => return Err(wrong("The policy must contain a valid version string")),
                ("Id", Json::Text(_)) => {}
                ("Statement", value) => statements = Some(value),
                _ => return Err(wrong("Unknown field")),
            }
        }
        let statements = match statements {
            Some(Json::List(statements)) if statements.is_empty() => None,
            Some(Json::List(statements)) => Some(statements.as_slice()),
            Some(one @ Json::Object(_)) => Some(std::slice::from_ref(one)),
            _ => None,
        };
        let statements = statements.ok_or_else(|| whole("Missing required field Statement".to_owned()))?;
        let read = |(at, json)| {
            Statement::read(json, holder, variables)
                .map_err(|(place, reason)| Malformed { place: format!("Statement[{at}]{place}"), reason })
        };
        let statements: Vec<_> = statements.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }

    /// Decides (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>).
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        self.say(request).into()
    }

    /// As [`decide`](Self::decide), with how closely the one who asks is named.
    #[must_use]
    pub fn say(&self, request: &Request<'_>) -> Said {
        let mut said = Said::Silent;
        for statement in &self.statements {
            if statement.allows && said == Said::Allow(Reach::Direct) {
                continue;
            }
            let Some(reach) = statement.is_about(request) else { continue };
            if !statement.allows {
                return Said::Deny;
            }
            said = match said {
                Said::Allow(closer) if closer >= reach => said,
                _ => Said::Allow(reach),
            };
        }
        said
    }

    /// Whether a decision about this action may depend on a condition key that begins so (in lower case), so that the caller knows
    /// whether it must find out what that costs to know.
    #[must_use]
    pub fn asks_for(&self, key: &str, action: &str) -> bool {
        self.statements.iter().any(|s| s.actions.include(action, &|_| None) && s.keys().any(|k| k.starts_with(key)))
    }
}

impl Policy {
    /// The condition keys that its statements look at, in lower case.
    pub fn condition_keys(&self) -> impl Iterator<Item = String> {
        self.statements.iter().flat_map(Statement::keys).map(str::to_ascii_lowercase)
    }
}

// === impl Statement ===

/// Where in a statement, and what is wrong there.
type Wrong = (String, String);

impl Statement {
    fn read(json: &Json, holder: Holder<'_>, variables: bool) -> Result<Self, Wrong> {
        let here = |reason: String| (String::new(), reason);
        let Json::Object(fields) = json else { return Err(here("A statement must be an object".to_owned())) };
        let (mut allows, mut principals, mut actions, mut resources) = (None, None, None, None);
        let mut conditions = Vec::new();
        for (name, value) in fields {
            let at = |reason: String| (format!(".{name}"), reason);
            let twice =
                |first: bool| if first { Ok(()) } else { Err(at("Only one of a field and its Not… may be given".to_owned())) };
            match name.as_str() {
                "Sid" if matches!(value, Json::Text(_)) => {}
                "Effect" => match value {
                    Json::Text(effect) if effect == "Allow" => allows = Some(true),
                    Json::Text(effect) if effect == "Deny" => allows = Some(false),
                    _ => return Err(at("Invalid effect: it must be Allow or Deny".to_owned())),
                },
                "Principal" | "NotPrincipal" if matches!(holder, Holder::Identity) => {
                    return Err(at("Policy document should not specify a principal.".to_owned()));
                }
                "Resource" | "NotResource" if matches!(holder, Holder::Trust) => {
                    return Err(at("Has prohibited field Resource".to_owned()));
                }
                "Principal" | "NotPrincipal" => {
                    twice(principals.is_none())?;
                    principals = Some((Principals::read(value, name == "NotPrincipal").map_err(at)?, name == "NotPrincipal"));
                }
                "Action" | "NotAction" => {
                    twice(actions.is_none())?;
                    actions = Some(Patterns { any: read_actions(value, holder).map_err(at)?, inverted: name == "NotAction" });
                }
                "Resource" | "NotResource" => {
                    twice(resources.is_none())?;
                    let any = read_resources(value, holder, variables).map_err(at)?;
                    resources = Some(Resources { any, inverted: name == "NotResource" });
                }
                "Condition" => conditions = read_conditions(value, holder, variables)?,
                _ => return Err(at("Unknown field".to_owned())),
            }
        }
        let missing = |name: &str| here(format!("Missing required field {name}"));
        let allows = allows.ok_or_else(|| missing("Effect"))?;
        let principals = match principals {
            // It would let in everybody else, unsigned requests too; AWS does not take it either.
            Some((_, true)) if allows => {
                return Err((".NotPrincipal".to_owned(), "Allow with NotPrincipal is not allowed".to_owned()));
            }
            Some((principals, _)) => Some(principals),
            None if matches!(holder, Holder::Identity) => None,
            None => return Err(missing("Principal")),
        };
        let actions = actions.ok_or_else(|| missing("Action"))?;
        if resources.is_none() && !matches!(holder, Holder::Trust) {
            return Err(missing("Resource"));
        }
        Ok(Self { allows, principals, actions, resources, conditions })
    }

    /// Whether it is about this request, and how closely it names the one who asks.
    fn is_about(&self, request: &Request<'_>) -> Option<Reach> {
        let values = |key: &str| principal::values(request.principal, key).unwrap_or_else(|| (request.values)(key));
        let variables = |key: &str| values(key).into_iter().next();
        let reach = match &self.principals {
            Some(principals) => principals.reach(request.principal)?,
            None => Reach::Direct,
        };
        let about = self.actions.include(request.action, &variables)
            && self.resources.as_ref().is_none_or(|resources| resources.include(request.resource, &variables))
            && self.conditions.iter().all(|c| c.is_met(&values(&c.key), &variables));
        about.then_some(reach)
    }

    /// The condition keys it looks at.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let tested = self.conditions.iter().map(|c| c.key.as_str());
        let values = self.conditions.iter().flat_map(|c| &c.values).flat_map(|value| match value {
            Value::Text(pattern) => std::slice::from_ref(pattern),
            Value::Arn(parts) => parts.as_slice(),
            _ => &[],
        });
        let resources = self.resources.iter().flat_map(|resources| &resources.any).flat_map(Resource::keys);
        tested.chain(values.flat_map(Pattern::keys)).chain(resources)
    }
}

// === impl Patterns ===

impl Patterns {
    fn include(&self, text: &str, variables: super::pattern::Variables<'_>) -> bool {
        self.any.iter().any(|pattern| pattern.fits(text, variables)) != self.inverted
    }
}

impl Resources {
    fn include(&self, target: Target<'_>, variables: super::pattern::Variables<'_>) -> bool {
        self.any.iter().any(|resource| resource.fits(target, variables)) != self.inverted
    }
}

fn texts(value: &Json) -> Result<Vec<&str>, String> {
    let mut texts = Vec::new();
    for value in value.many() {
        let Json::Text(text) = value else { return Err("It must be a text or a list of texts".to_owned()) };
        texts.push(text.as_str());
    }
    if texts.is_empty() { Err("It must not be empty".to_owned()) } else { Ok(texts) }
}

fn read_actions(value: &Json, holder: Holder<'_>) -> Result<Vec<Pattern>, String> {
    let known = |pattern: &Pattern, text: &str| match holder {
        Holder::Bucket(_) => vocabulary::ACTIONS.iter().any(|action| pattern.fits(action, &|_| None)),
        Holder::Identity => text == "*" || vocabulary::is_action(text),
        Holder::Trust => vocabulary::is_action(text) && text.len() >= 4 && text[..4].eq_ignore_ascii_case("sts:"),
    };
    let read = |text: &str| {
        let reading = Reading { wildcards: true, variables: false, fold: true };
        let pattern = Pattern::read(text, reading).filter(|pattern| known(pattern, text));
        pattern.ok_or_else(|| format!("Policy has invalid action: {text}"))
    };
    texts(value)?.into_iter().map(read).collect()
}

fn read_resources(value: &Json, holder: Holder<'_>, variables: bool) -> Result<Vec<Resource>, String> {
    let read = |text: &str| match holder {
        Holder::Bucket(bucket) => {
            Resource::read_of_bucket(text, bucket, variables).ok_or_else(|| format!("Policy has invalid resource: {text}"))
        }
        Holder::Identity | Holder::Trust => {
            Resource::read(text, variables).ok_or_else(|| format!("Resource {text} must be in ARN format or \"*\"."))
        }
    };
    texts(value)?.into_iter().map(read).collect()
}

fn read_conditions(value: &Json, holder: Holder<'_>, variables: bool) -> Result<Vec<Condition>, Wrong> {
    let Json::Object(operators) = value else {
        return Err((".Condition".to_owned(), "Condition must be an object of operators".to_owned()));
    };
    let key_exists = match holder {
        Holder::Bucket(_) => vocabulary::is_condition_key,
        Holder::Identity | Holder::Trust => vocabulary::may_be_condition_key,
    };
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let place = format!(".Condition.{name}");
        let operator = Operator::named(name).ok_or_else(|| (place.clone(), format!("Invalid Condition type : {name}")))?;
        conditions.extend(Condition::read(operator, keys, variables, key_exists).map_err(|(at, reason)| (place + &at, reason))?);
    }
    Ok(conditions)
}
