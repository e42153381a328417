//! What names, paths, tags and documents may be
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).

use std::collections::BTreeMap;

use super::fault::Fault;
use crate::meta::{EntityKind, EntityRecord, PolicyRecord};
use crate::s3::query::Query;
use crate::tokens::policy::Policy;

/// The largest number of tags.
const MAX_TAGS: usize = 50;

/// The ARN of a user, group or role.
pub(super) fn arn(number: &str, entity: &EntityRecord) -> String {
    format!("arn:aws:iam::{number}:{}", place(entity))
}

/// What stands in the ARN of an entity after the account.
pub(super) fn place(entity: &EntityRecord) -> String {
    format!("{}{}{}", entity.kind.as_str(), entity.path, entity.name)
}

/// The ARN of a managed policy.
pub(super) fn policy_arn(number: &str, policy: &PolicyRecord) -> String {
    format!("arn:aws:iam::{number}:policy{}{}", policy.path, policy.name)
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

/// A name of 1 to so many characters.
pub(super) fn name<'q>(params: &'q Query, field: &str, most: usize) -> Result<&'q str, Fault> {
    let text = params.get(field).ok_or_else(|| missing(field))?;
    if (1..=most).contains(&text.len()) && is_word(text) {
        Ok(text)
    } else {
        Err(Fault::validation(format!(
            "The specified value for {field} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-, \
             1 to {most} of them"
        )))
    }
}

/// The most characters of the name of an entity.
pub(super) fn longest(kind: EntityKind) -> usize {
    if kind == EntityKind::Group { 128 } else { 64 }
}

pub(super) fn missing(field: &str) -> Fault {
    Fault::validation(format!(
        "1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
    ))
}

/// A path; `/` when none is given.
pub(super) fn path<'q>(params: &'q Query, field: &str) -> Result<&'q str, Fault> {
    let text = params.get(field).filter(|path| !path.is_empty()).unwrap_or("/");
    let sound =
        text.len() <= 512 && text.starts_with('/') && text.ends_with('/') && text.bytes().all(|b| (0x21..0x7f).contains(&b));
    // A star would be a wildcard in the policies that name it.
    if sound && !text.contains("//") && !text.contains(['*', '?', '$']) {
        Ok(text)
    } else {
        Err(Fault::validation(format!(
            "The specified value for {field} is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters."
        )))
    }
}

/// The members of a list: `FIELD.member.1`, `FIELD.member.2` …, each with this ending.
pub(super) fn members<'q>(params: &'q Query, field: &str, ending: &str) -> Vec<&'q str> {
    (1..=1000).map_while(|n| params.get(&format!("{field}.member.{n}{ending}"))).collect()
}

/// Tags.
pub(super) fn tags(params: &Query) -> Result<BTreeMap<String, String>, Fault> {
    let (names, values) = (members(params, "Tags", ".Key"), members(params, "Tags", ".Value"));
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let value = values.get(at).copied().unwrap_or_default();
        if !(1..=128).contains(&name.chars().count())
            || value.chars().count() > 256
            || name.to_ascii_lowercase().starts_with("aws:")
        {
            return Err(Fault::validation(
                "A tag has a key of 1 to 128 characters, which does not begin with aws:, and a value of at most 256",
            ));
        }
        if tags.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(Fault::input("Duplicate tag keys found. Please note that Tag keys are case insensitive."));
        }
        tags.insert((*name).to_owned(), value.to_owned());
    }
    if tags.len() > MAX_TAGS { Err(Fault::limit(format!("There may be at most {MAX_TAGS} tags"))) } else { Ok(tags) }
}

/// A description of at most 1000 characters.
pub(super) fn description(params: &Query) -> Result<String, Fault> {
    let text = params.get("Description").unwrap_or_default();
    if text.chars().count() <= 1000 {
        Ok(text.to_owned())
    } else {
        Err(Fault::validation("Description has at most 1000 characters"))
    }
}

/// How much of a document counts: white space is free.
pub(super) fn weight(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).count()
}

/// The policy of an identity, checked.
pub(super) fn document<'q>(params: &'q Query, field: &str) -> Result<&'q str, Fault> {
    let text = params.get(field).filter(|text| !text.is_empty()).ok_or_else(|| missing(field))?;
    Policy::parse_identity(text).map_err(|wrong| Fault::malformed(wrong.to_string()))?;
    unique_sids(text)?;
    Ok(text)
}

/// What is only asked of new documents: those that were stored before go on.
fn unique_sids(document: &str) -> Result<(), Fault> {
    let json: serde_json::Value = serde_json::from_str(document).unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    let statements = json.get("Statement").and_then(serde_json::Value::as_array).into_iter().flatten();
    for sid in statements.filter_map(|statement| statement.get("Sid")?.as_str()).filter(|sid| !sid.is_empty()) {
        if !seen.insert(sid) {
            return Err(Fault::malformed("Statement IDs (SID) in a single policy must be unique."));
        }
    }
    Ok(())
}

/// The policy of a role about who may assume it, checked.
pub(super) fn trust<'q>(params: &'q Query, field: &str) -> Result<&'q str, Fault> {
    let text = params.get(field).filter(|text| !text.is_empty()).ok_or_else(|| missing(field))?;
    Policy::parse_trust(text).map_err(|wrong| Fault::malformed(wrong.to_string()))?;
    if weight(text) > 2048 {
        return Err(Fault::limit("Cannot exceed quota for ACLSizePerRole: 2048"));
    }
    Ok(text)
}

/// A number within bounds.
pub(super) fn number(params: &Query, field: &str, bounds: std::ops::RangeInclusive<u32>, default: u32) -> Result<u32, Fault> {
    let Some(text) = params.get(field).filter(|text| !text.is_empty()) else { return Ok(default) };
    match text.parse::<u32>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(Fault::validation(format!(
            "1 validation error detected: Value '{}' at '{field}' failed to satisfy constraint: Member must have value between {} and {}",
            text.chars().take(32).collect::<String>(),
            bounds.start(),
            bounds.end()
        ))),
    }
}
