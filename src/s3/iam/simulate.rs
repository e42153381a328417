//! What policies would say, without asking for anything
//! (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>).

use std::collections::BTreeMap;

use super::answer;
use super::api::{Api, Outcome, cut};
use super::fault::Fault;
use super::names;
use crate::meta::{AppliedPolicy, EntityKind, EntityRecord, PolicySource, PolicyUse};
use crate::s3::xml::Xml;
use crate::tokens::BuiltIn;
use crate::tokens::policy::{Acting, Bounds, Decision, Policy, Principal, Request, Said, Target, combine, permits};

/// The most pairs of an action and a resource of one request.
const MAX_PAIRS: usize = 1000;

/// A policy, and where it is from.
struct Known {
    source: String,
    kind: &'static str,
    policy: Policy,
}

/// What is simulated.
struct Scene<'a> {
    policies: Vec<Known>,
    boundary: Option<Policy>,
    principal: Principal<'a>,
    tags: BTreeMap<String, String>,
}

struct Verdict {
    action: String,
    resource: String,
    decision: &'static str,
    matched: Vec<(String, &'static str)>,
    missing: Vec<String>,
    bounded: Option<bool>,
}

pub(super) async fn custom(api: &Api<'_>) -> Outcome {
    api.need("iam:SimulateCustomPolicy", "*")?;
    let policies = given(api, "PolicyInputList")?;
    if policies.is_empty() {
        return Err(names::missing("PolicyInputList"));
    }
    let principal = Principal { acting: Acting::Account, ..api.actor.principal() };
    results(api, Scene { policies, boundary: boundary(api)?, principal, tags: BTreeMap::new() })
}

pub(super) async fn principal(api: &Api<'_>) -> Outcome {
    let entity = source(api).await?;
    let mut scene = Scene {
        policies: Vec::new(),
        boundary: None,
        principal: Principal { acting: acting(&entity), ..api.actor.principal() },
        tags: entity.tags.clone(),
    };
    for AppliedPolicy { source, usage, document, .. } in api.store().applied_policies(&entity.id).await? {
        let (name, kind, built_in) = match &source {
            PolicySource::Inline(name) => (name.clone(), "IAM Policy", None),
            PolicySource::Managed(arn) => (arn.clone(), "IAM Policy", BuiltIn::by_arn(arn).map(|policy| policy.document)),
        };
        let document = document.as_deref().or(built_in).and_then(|text| Policy::parse_identity(text).ok());
        // As when it is in force: one that cannot be read forbids everything.
        let policy = document.unwrap_or_else(Policy::forbidding);
        match usage {
            PolicyUse::Attached => scene.policies.push(Known { source: name, kind, policy }),
            PolicyUse::Boundary => scene.boundary = Some(policy),
        }
    }
    scene.policies.extend(given(api, "PolicyInputList")?);
    if let Some(other) = boundary(api)? {
        scene.boundary = Some(other);
    }
    results(api, scene)
}

fn acting(entity: &EntityRecord) -> Acting<'_> {
    match entity.kind {
        EntityKind::Role => Acting::Role { id: &entity.id, path: &entity.path, name: &entity.name, session: "simulated" },
        EntityKind::User | EntityKind::Group => Acting::User { id: &entity.id, path: &entity.path, name: &entity.name },
    }
}

/// The user, group or role of the form.
async fn source(api: &Api<'_>) -> Result<EntityRecord, Fault> {
    let arn = api.params.filled("PolicySourceArn").ok_or_else(|| names::missing("PolicySourceArn"))?;
    let place = arn.strip_prefix(&format!("arn:aws:iam::{}:", api.account.number)).unwrap_or_default();
    api.need("iam:SimulatePrincipalPolicy", if place.is_empty() { "*" } else { place })?;
    let kind = place.split('/').next().and_then(EntityKind::parse);
    let found = match (kind, place.rsplit('/').next()) {
        (Some(kind), Some(name)) => api.store().entity_named(&api.account.id, kind, name).await?,
        _ => None,
    };
    found.filter(|entity| names::place(entity) == place).ok_or_else(|| {
        let shown: String = arn.chars().take(256).collect();
        Fault::no_such(format!("The principal {shown} cannot be found."))
    })
}

fn given(api: &Api<'_>, field: &str) -> Result<Vec<Known>, Fault> {
    let read = |(at, text): (usize, &str)| {
        let policy = Policy::parse_identity(text).map_err(|wrong| Fault::new(400, "InvalidInput", wrong.to_string()))?;
        Ok(Known { source: format!("{field}.{}", at + 1), kind: "None", policy })
    };
    names::members(&api.params, field, "").into_iter().enumerate().map(read).collect()
}

fn boundary(api: &Api<'_>) -> Result<Option<Policy>, Fault> {
    Ok(given(api, "PermissionsBoundaryPolicyInputList")?.into_iter().next().map(|known| known.policy))
}

/// The context entries of the form, names in lower case.
fn context(api: &Api<'_>) -> BTreeMap<String, Vec<String>> {
    let keys = names::members(&api.params, "ContextEntries", ".ContextKeyName");
    let values = |at: usize| names::members(&api.params, &format!("ContextEntries.member.{at}.ContextKeyValues"), "");
    let entry = |(at, key): (usize, &str)| (key.to_ascii_lowercase(), values(at + 1).into_iter().map(str::to_owned).collect());
    keys.into_iter().enumerate().map(entry).collect()
}

fn results(api: &Api<'_>, scene: Scene<'_>) -> Outcome {
    let actions = names::members(&api.params, "ActionNames", "");
    if actions.is_empty() {
        return Err(names::missing("ActionNames"));
    }
    let mut resources = names::members(&api.params, "ResourceArns", "");
    if resources.is_empty() {
        resources.push("*");
    }
    if actions.len() * resources.len() > MAX_PAIRS {
        return Err(Fault::input(format!("At most {MAX_PAIRS} pairs of an action and a resource can be simulated at once")));
    }
    let mut context = context(api);
    for (tag, value) in &scene.tags {
        context.entry(format!("aws:principaltag/{}", tag.to_ascii_lowercase())).or_insert_with(|| vec![value.clone()]);
    }
    let mut verdicts = Vec::with_capacity(actions.len() * resources.len());
    for action in &actions {
        if !action.contains(':') {
            return Err(Fault::input(format!("Invalid action: {}", action.chars().take(128).collect::<String>())));
        }
        for resource in &resources {
            verdicts.push(judge(api, &scene, &context, action, resource)?);
        }
    }
    let (after, most) = api.page()?;
    let numbered: Vec<(String, Verdict)> = verdicts.into_iter().enumerate().map(|(at, v)| (format!("{at:06}"), v)).collect();
    let page = cut(numbered, &after, most, |(number, _)| number);
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "EvaluationResults", &page, |xml, (_, verdict)| write(xml, verdict));
    Ok(Some(xml))
}

fn judge(
    api: &Api<'_>,
    scene: &Scene<'_>,
    context: &BTreeMap<String, Vec<String>>,
    action: &str,
    resource: &str,
) -> Result<Verdict, Fault> {
    let invalid = || Fault::input(format!("Invalid resource: {}", resource.chars().take(256).collect::<String>()));
    let target = match resource {
        "*" => Target { service: "*", account: "", name: "*" },
        arn => {
            let parts: Vec<&str> = arn.splitn(6, ':').collect();
            let ["arn", _, service, _, account, name] = parts[..] else { return Err(invalid()) };
            Target { service, account, name }
        }
    };
    let values = |key: &str| context.get(key).cloned().unwrap_or_default();
    let request = Request { principal: Some(scene.principal), action, resource: target, values: &values };
    let policy_of_resource = match api.params.filled("ResourcePolicy") {
        None => None,
        Some(text) => {
            let bucket = target.name.split('/').next().unwrap_or_default();
            Some(Policy::parse(text, bucket).map_err(|wrong| Fault::input(wrong.to_string()))?)
        }
    };
    let said = policy_of_resource.as_ref().map_or(Said::Silent, |policy| policy.say(&request));
    let policies: Vec<Policy> = scene.policies.iter().map(|known| known.policy.clone()).collect();
    let bounds = Bounds { identity: Some(&policies), boundary: scene.boundary.as_ref(), session: None };
    let denies = |policy: &Policy| policy.decide(&request) == Decision::Deny;
    let decision = if said == Said::Deny || policies.iter().chain(&scene.boundary).any(denies) {
        "explicitDeny"
    } else if permits(combine(bounds, &request, said, true), true) {
        "allowed"
    } else {
        "implicitDeny"
    };
    let matched = scene.policies.iter().filter(|known| known.policy.decide(&request) != Decision::Silent);
    let mut matched: Vec<_> = matched.map(|known| (known.source.clone(), known.kind)).collect();
    if said != Said::Silent {
        matched.push(("ResourcePolicy".to_owned(), "Resource Policy"));
    }
    let asked = policies.iter().chain(&scene.boundary).chain(&policy_of_resource).flat_map(Policy::condition_keys);
    let mut missing: Vec<String> = asked.filter(|key| !context.contains_key(key) && !scene.principal.answers(key)).collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(Verdict {
        action: action.to_owned(),
        resource: resource.to_owned(),
        decision,
        matched,
        missing,
        bounded: scene.boundary.as_ref().map(|boundary| boundary.decide(&request) == Decision::Allow),
    })
}

fn write(xml: &mut Xml, verdict: &Verdict) {
    xml.text("EvalActionName", &verdict.action);
    xml.text("EvalResourceName", &verdict.resource);
    xml.text("EvalDecision", verdict.decision);
    xml.open("MatchedStatements");
    for (source, kind) in &verdict.matched {
        xml.open("member");
        xml.text("SourcePolicyId", source);
        xml.text("SourcePolicyType", kind);
        xml.close("member");
    }
    xml.close("MatchedStatements");
    xml.open("MissingContextValues");
    for key in &verdict.missing {
        xml.text("member", key);
    }
    xml.close("MissingContextValues");
    if let Some(bounded) = verdict.bounded {
        xml.open("PermissionsBoundaryDecisionDetail");
        xml.plain("AllowedByPermissionsBoundary", bounded);
        xml.close("PermissionsBoundaryDecisionDetail");
    }
}
