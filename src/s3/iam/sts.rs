//! The actions of STS.

use std::collections::BTreeMap;

use super::answer;
use super::api::{Api, Outcome};
use super::fault::Fault;
use super::names;
use crate::error::ErrorKind;
use crate::meta::{EntityKind, EntityRecord, SessionKind};
use crate::s3::access::{Asked, session_token};
use crate::s3::error::Code;
use crate::s3::front::Parts;
use crate::s3::xml::Xml;
use crate::tokens::policy::{Decision, Policy, Request, Said, Target};
use crate::tokens::{Identity, Issued, NewSession};

/// The most characters of a session policy.
const MAX_POLICY: usize = 2048;
/// The most managed policies of a session.
const MAX_POLICY_ARNS: usize = 10;
/// The longest session of a role that a session assumes, in seconds.
const MAX_CHAINED: u32 = 3600;
/// The longest session of an account itself, in seconds.
const MAX_OF_ACCOUNT: u32 = 3600;

pub(super) async fn get_caller_identity(api: &Api<'_>) -> Outcome {
    let who = api.actor.principal();
    // Of an account itself, AWS shows the number.
    let id = if api.actor.holder().is_none() && api.actor.session().is_none_or(|s| s.kind == SessionKind::SessionToken) {
        who.number.to_owned()
    } else {
        who.user_id()
    };
    let mut xml = Xml::without_declaration();
    xml.text("Arn", &who.arn());
    xml.text("UserId", &id);
    xml.text("Account", who.number);
    Ok(Some(xml))
}

pub(super) fn credentials(xml: &mut Xml, issued: &Issued) {
    xml.open("Credentials");
    xml.text("AccessKeyId", &issued.access_key);
    xml.text("SecretAccessKey", issued.secret.expose());
    xml.text("SessionToken", issued.token.expose());
    answer::date(xml, "Expiration", issued.expires);
    xml.close("Credentials");
}

/// A session of the one who asks, before it is named and bound.
fn new_session(api: &Api<'_>, kind: SessionKind, seconds: u32) -> NewSession {
    let parent = api.actor.credential().map(|credential| credential.access_key.to_string());
    NewSession {
        account: api.account.id.clone(),
        entity: api.actor.holder().map(|holder| holder.entity.id.clone()),
        kind,
        name: String::new(),
        policy: None,
        policy_arns: Vec::new(),
        tags: BTreeMap::new(),
        context: parent.map(|key| ("parent".to_owned(), key)).into_iter().collect(),
        seconds,
    }
}

/// Only who lasts may ask for these, and only with all the rights of its owner: a service account must not shed its bounds.
fn refuse_session(api: &Api<'_>, action: &str) -> Result<(), Fault> {
    if api.actor.session().is_some() || api.actor.has_limits() {
        return Err(Fault::denied(format!("Cannot call {action} with session credentials")));
    }
    Ok(())
}

/// How long a session may last that the sender asks for itself, in seconds: bounds and default.
fn duration(api: &Api<'_>) -> Result<u32, Fault> {
    let of_account = api.actor.holder().is_none();
    let seconds = names::number(&api.params, "DurationSeconds", 900..=129_600, if of_account { MAX_OF_ACCOUNT } else { 43_200 })?;
    Ok(if of_account { seconds.min(MAX_OF_ACCOUNT) } else { seconds })
}

pub(super) async fn get_session_token(api: &Api<'_>) -> Outcome {
    refuse_session(api, "GetSessionToken")?;
    let issued = api.tokens.begin_session(new_session(api, SessionKind::SessionToken, duration(api)?)).await?;
    let mut xml = Xml::without_declaration();
    credentials(&mut xml, &issued);
    Ok(Some(xml))
}

/// The action that renews a session. AWS has none: `sts:AssumeRole` again is what its clients do, where they still can.
pub(super) const RENEW: &str = "RenewSession";

/// Renews the session that signed the request, for which it may be over, but not for long.
pub(super) async fn renew_session(parts: &Parts, access_key: &str, asked: Asked<'_>) -> Outcome {
    let invalid = || Fault::from(&Code::InvalidToken.into());
    let credential = parts.tokens.credential(access_key).await?.ok_or_else(invalid)?;
    let token = session_token(asked.headers, asked.query).map_err(|failure| Fault::from(&failure))?;
    if !token.is_some_and(|token| credential.has_token(token)) {
        return Err(invalid());
    }
    // A user or role that is gone has no sessions.
    parts.tokens.actor(credential.clone()).await?.ok_or_else(invalid)?;
    let issued = parts.tokens.renew_session(&credential).await.map_err(|error| match error.kind() {
        ErrorKind::InvalidRequest(why) => Fault::validation(why.clone()),
        ErrorKind::AccessDenied => Fault::from(&Code::ExpiredToken.into()),
        _ => error.into(),
    })?;
    let mut xml = Xml::without_declaration();
    self::credentials(&mut xml, &issued);
    Ok(Some(xml))
}

/// What is left of the action for the table: its name.
pub(super) async fn renew_unsigned(_: &Api<'_>) -> Outcome {
    Err(Fault::denied("A session is renewed with its own credentials"))
}

/// The session policy of the form, and the managed policies as session policies.
pub(super) async fn policies(api: &Api<'_>, of: &Identity) -> Result<(Option<String>, Vec<String>), Fault> {
    let policy = match api.params.filled("Policy") {
        None => None,
        Some(_) => Some(names::document(&api.params, "Policy")?.to_owned()),
    };
    if policy.as_ref().is_some_and(|text| text.chars().count() > MAX_POLICY) {
        return Err(Fault::validation(format!("Policy has at most {MAX_POLICY} characters")));
    }
    let arns = names::members(&api.params, "PolicyArns", ".arn");
    if arns.len() > MAX_POLICY_ARNS {
        return Err(Fault::validation(format!("PolicyArns has at most {MAX_POLICY_ARNS} members")));
    }
    for arn in &arns {
        if api.tokens.managed_document(&of.id, &of.number, arn).await?.is_none() {
            return Err(Fault::malformed("One of the managed session policies cannot be found."));
        }
    }
    Ok((policy, arns.into_iter().map(str::to_owned).collect()))
}

pub(super) fn session_name<'a>(api: &'a Api<'_>, field: &str, most: usize) -> Result<&'a str, Fault> {
    let name = names::name(&api.params, field, most)?;
    if name.len() < 2 { Err(Fault::validation(format!("{field} has 2 to {most} characters"))) } else { Ok(name) }
}

pub(super) async fn get_federation_token(api: &Api<'_>) -> Outcome {
    refuse_session(api, "GetFederationToken")?;
    let name = session_name(api, "Name", 32)?;
    let number = &api.account.number;
    let target = Target { service: "sts", account: number, name: &format!("federated-user/{name}") };
    if !api.actor.may("sts:GetFederationToken", target, &|key| api.values(&[], key)) {
        let who = api.actor.principal().arn();
        let what = format!(
            "User: {who} is not authorized to perform: sts:GetFederationToken on resource: arn:aws:sts::{number}:federated-user/{name}"
        );
        return Err(Fault::denied(what));
    }
    let (policy, policy_arns) = policies(api, &api.account).await?;
    let new = new_session(api, SessionKind::Federated, duration(api)?);
    let new = NewSession { name: name.to_owned(), policy, policy_arns, tags: names::tags(&api.params)?, ..new };
    let issued = api.tokens.begin_session(new).await?;
    let mut xml = Xml::without_declaration();
    credentials(&mut xml, &issued);
    xml.open("FederatedUser");
    xml.text("FederatedUserId", &format!("{number}:{name}"));
    xml.text("Arn", &format!("arn:aws:sts::{number}:federated-user/{name}"));
    xml.close("FederatedUser");
    xml.plain("PackedPolicySize", 0);
    Ok(Some(xml))
}

/// The role of an ARN, with its account.
pub(super) async fn role(api: &Api<'_>, arn: &str) -> Result<Option<(Identity, EntityRecord)>, Fault> {
    let Some((number, place)) = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(':')) else { return Ok(None) };
    let name = place.rsplit('/').next().unwrap_or(place);
    let Some(account) = api.store().account_by_number(number).await?.filter(|account| account.active) else { return Ok(None) };
    let found = api.store().entity_named(&account.id, EntityKind::Role, name).await?;
    Ok(found.filter(|role| names::place(role) == place).map(|role| (account, role)))
}

pub(super) async fn assume_role(api: &Api<'_>) -> Outcome {
    let arn = api.params.filled("RoleArn").ok_or_else(|| names::missing("RoleArn"))?;
    if !arn.starts_with("arn:aws:iam::") || arn.len() > 2048 {
        return Err(Fault::validation("RoleArn is no ARN of a role"));
    }
    let name = session_name(api, "RoleSessionName", 64)?;
    let tags = names::tags(&api.params)?;
    let source = match api.params.filled("SourceIdentity") {
        Some(_) => Some(session_name(api, "SourceIdentity", 64)?),
        None => None,
    };
    let refused = |action: &str| {
        let who = api.actor.principal().arn();
        Fault::denied(format!("User: {who} is not authorized to perform: sts:{action} on resource: {arn}"))
    };
    // Nobody learns which roles there are.
    let (account, role) = role(api, arn).await?.ok_or_else(|| refused("AssumeRole"))?;
    let trust = role.trust.as_deref().and_then(|text| Policy::parse_trust(text).ok()).ok_or_else(|| refused("AssumeRole"))?;
    let mut own: Vec<(String, Vec<String>)> = vec![
        ("sts:externalid".to_owned(), api.params.filled("ExternalId").map(str::to_owned).into_iter().collect()),
        ("sts:rolesessionname".to_owned(), vec![name.to_owned()]),
        ("sts:sourceidentity".to_owned(), source.map(str::to_owned).into_iter().collect()),
        ("aws:tagkeys".to_owned(), tags.keys().cloned().collect()),
    ];
    own.extend(tags.iter().map(|(tag, value)| (format!("aws:requesttag/{}", tag.to_ascii_lowercase()), vec![value.clone()])));
    let mut actions = vec!["AssumeRole"];
    actions.extend((!tags.is_empty()).then_some("TagSession"));
    actions.extend(source.map(|_| "SetSourceIdentity"));
    for action in actions {
        if !trusts(api, &trust, &account, &role, action, &own) {
            return Err(refused(action));
        }
    }
    let chained = api.actor.session().is_some_and(|session| session.kind != SessionKind::SessionToken);
    let most = if chained { MAX_CHAINED } else { role.max_session_secs };
    let seconds = names::number(&api.params, "DurationSeconds", 900..=43_200, MAX_CHAINED)?;
    if seconds > most {
        return Err(Fault::validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
    }
    let (policy, policy_arns) = policies(api, &account).await?;
    let mut new = new_session(api, SessionKind::AssumedRole, seconds);
    // Once set, it stays the same along a chain of roles.
    let inherited = api.actor.session().and_then(|session| session.context.get("source-identity").cloned());
    let source = inherited.or_else(|| source.map(str::to_owned));
    new.context.extend(source.clone().map(|source| ("source-identity".to_owned(), source)));
    let new = NewSession {
        account: account.id.clone(),
        entity: Some(role.id.clone()),
        name: name.to_owned(),
        policy,
        policy_arns,
        tags,
        ..new
    };
    let issued = api.tokens.begin_session(new).await?;
    let mut xml = Xml::without_declaration();
    credentials(&mut xml, &issued);
    xml.open("AssumedRoleUser");
    xml.text("AssumedRoleId", &format!("{}:{name}", role.id));
    xml.text("Arn", &format!("arn:aws:sts::{}:assumed-role/{}/{name}", account.number, role.name));
    xml.close("AssumedRoleUser");
    xml.plain("PackedPolicySize", 0);
    if let Some(source) = source {
        xml.text("SourceIdentity", &source);
    }
    Ok(Some(xml))
}

/// Whether the role and the sender's own side both let the sender do this. A role is never assumed without its own word.
fn trusts(
    api: &Api<'_>,
    trust: &Policy,
    account: &Identity,
    role: &EntityRecord,
    action: &str,
    own: &[(String, Vec<String>)],
) -> bool {
    let values = |key: &str| match own.iter().find(|(name, _)| name == key) {
        Some((_, values)) => values.clone(),
        None => api.actor.values(key).unwrap_or_else(|| api.values(&[], key)),
    };
    let (action, place) = (format!("sts:{action}"), names::place(role));
    let request = Request {
        principal: Some(api.actor.principal()),
        action: &action,
        resource: Target { service: "iam", account: &account.number, name: &place },
        values: &values,
    };
    let said = trust.say(&request);
    let same = account.id == api.account.id;
    matches!(said, Said::Allow(_)) && api.actor.decide(&request, said, same) == Decision::Allow
}
