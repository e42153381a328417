//! Policies of users, groups and roles: inline, attached, and boundaries.

use super::answer::{self, encoded, word};
use super::api::{Api, Outcome, cut};
use super::entities::change;
use super::fault::Fault;
use super::names;
use crate::meta::{EntityKind, EntityRecord, PolicyRef};
use crate::s3::xml::Xml;
use crate::tokens::BuiltIn;

/// The most managed policies of an entity.
const MAX_ATTACHED: usize = 10;

/// How many characters all inline policies of an entity may have, white space aside
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
fn quota(kind: EntityKind) -> usize {
    match kind {
        EntityKind::User => 2048,
        EntityKind::Group => 5120,
        EntityKind::Role => 10_240,
    }
}

fn field(kind: EntityKind) -> String {
    format!("{}Name", word(kind))
}

/// A managed policy that this account may use, by the ARN in the form.
pub(super) async fn referred(api: &Api<'_>, arn: &str) -> Result<PolicyRef, Fault> {
    if BuiltIn::by_arn(arn).is_some() {
        return Ok(PolicyRef { arn: arn.to_owned(), policy: None });
    }
    let found = api.tokens.managed_policy(&api.account.id, &api.account.number, arn).await?;
    let missing =
        || Fault::no_such(format!("Policy {} does not exist or is not attachable.", arn.chars().take(256).collect::<String>()));
    found.map(|policy| PolicyRef { arn: arn.to_owned(), policy: Some(policy.id) }).ok_or_else(missing)
}

async fn entity(api: &Api<'_>, kind: EntityKind, action: &str) -> Result<EntityRecord, Fault> {
    api.found(kind, &field(kind), &format!("iam:{action}{}Policy", word(kind))).await
}

async fn put(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = entity(api, kind, "Put").await?;
    let name = names::name(&api.params, "PolicyName", 128)?;
    let document = names::document(&api.params, "PolicyDocument")?;
    let others = api.store().inline_policies(&entity.id).await?;
    let used: usize = others.iter().filter(|(other, _)| other != name).map(|(_, text)| names::weight(text)).sum();
    let most = quota(kind);
    if used + names::weight(document) > most {
        let what = format!("Maximum policy size of {most} bytes exceeded for {} {}", kind.as_str(), entity.name);
        return Err(Fault::limit(what));
    }
    let put = api.store().put_inline_policy(&entity.id, name, document).await;
    api.changed();
    put?;
    Ok(None)
}

async fn get(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = entity(api, kind, "Get").await?;
    let name = names::name(&api.params, "PolicyName", 128)?;
    let found = api.store().inline_policies(&entity.id).await?.into_iter().find(|(known, _)| known == name);
    let (name, document) = found.ok_or_else(|| no_policy(kind, name))?;
    let mut xml = Xml::without_declaration();
    xml.text(&field(kind), &entity.name);
    xml.text("PolicyName", &name);
    xml.text("PolicyDocument", &encoded(&document));
    Ok(Some(xml))
}

fn no_policy(kind: EntityKind, name: &str) -> Fault {
    Fault::no_such(format!("The {} policy with name {name} cannot be found.", kind.as_str()))
}

async fn list(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = api.found(kind, &field(kind), &format!("iam:List{}Policies", word(kind))).await?;
    let (after, most) = api.page()?;
    let names = api.store().inline_policies(&entity.id).await?.into_iter().map(|(name, _)| name).collect();
    let page = cut(names, &after, most, |name: &String| name);
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "PolicyNames", &page, |xml, name| xml.raw_text(name));
    Ok(Some(xml))
}

async fn delete(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = entity(api, kind, "Delete").await?;
    let name = names::name(&api.params, "PolicyName", 128)?;
    let deleted = api.store().delete_inline_policy(&entity.id, name).await;
    api.changed();
    if deleted? { Ok(None) } else { Err(no_policy(kind, name)) }
}

/// The ARN in the form, as a condition key may ask for it.
fn policy_arn<'a>(api: &'a Api<'_>) -> Result<&'a str, Fault> {
    api.params.filled("PolicyArn").ok_or_else(|| names::missing("PolicyArn"))
}

async fn attach(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let arn = policy_arn(api)?;
    let own = [("iam:policyarn", vec![arn.to_owned()])];
    let entity = api.found_with(kind, &field(kind), &format!("iam:Attach{}Policy", word(kind)), &own).await?;
    let policy = referred(api, arn).await?;
    let attached = api.store().attached_policies(&entity.id).await?;
    if attached.len() >= MAX_ATTACHED && !attached.contains(&policy) {
        return Err(Fault::limit(format!("Cannot exceed quota for PoliciesPer{}: {MAX_ATTACHED}", word(kind))));
    }
    let attached = api.store().attach_policy(&entity.id, &policy).await;
    api.changed();
    attached?;
    Ok(None)
}

async fn detach(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let arn = policy_arn(api)?;
    let own = [("iam:policyarn", vec![arn.to_owned()])];
    let entity = api.found_with(kind, &field(kind), &format!("iam:Detach{}Policy", word(kind)), &own).await?;
    let detached = api.store().detach_policy(&entity.id, arn).await;
    api.changed();
    if detached? { Ok(None) } else { Err(Fault::no_such(format!("Policy {arn} was not found."))) }
}

async fn attached(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = api.found(kind, &field(kind), &format!("iam:ListAttached{}Policies", word(kind))).await?;
    let (after, most) = api.page()?;
    let page = cut(api.store().attached_policies(&entity.id).await?, &after, most, |policy| &policy.arn);
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "AttachedPolicies", &page, |xml, policy| {
        xml.text("PolicyName", policy.arn.rsplit('/').next().unwrap_or(&policy.arn));
        xml.text("PolicyArn", &policy.arn);
    });
    Ok(Some(xml))
}

async fn put_boundary(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let arn = api.params.filled("PermissionsBoundary").ok_or_else(|| names::missing("PermissionsBoundary"))?;
    let own = [("iam:permissionsboundary", vec![arn.to_owned()])];
    let action = format!("iam:Put{}PermissionsBoundary", word(kind));
    let entity = api.found_with(kind, &field(kind), &action, &own).await?;
    let boundary = referred(api, arn).await?;
    change(api, entity, |from| Ok(EntityRecord { boundary: Some(boundary.clone()), ..from.clone() })).await?;
    Ok(None)
}

async fn delete_boundary(api: &Api<'_>, kind: EntityKind) -> Outcome {
    let entity = api.found(kind, &field(kind), &format!("iam:Delete{}PermissionsBoundary", word(kind))).await?;
    change(api, entity, |from| Ok(EntityRecord { boundary: None, ..from.clone() })).await?;
    Ok(None)
}

macro_rules! of_kinds {
    ($($name:ident = $act:ident($kind:ident);)*) => {
        $(pub(super) async fn $name(api: &Api<'_>) -> Outcome {
            $act(api, EntityKind::$kind).await
        })*
    };
}

of_kinds! {
    put_user = put(User); get_user = get(User); list_user = list(User); delete_user = delete(User);
    put_group = put(Group); get_group = get(Group); list_group = list(Group); delete_group = delete(Group);
    put_role = put(Role); get_role = get(Role); list_role = list(Role); delete_role = delete(Role);
    attach_user = attach(User); detach_user = detach(User); attached_user = attached(User);
    attach_group = attach(Group); detach_group = detach(Group); attached_group = attached(Group);
    attach_role = attach(Role); detach_role = detach(Role); attached_role = attached(Role);
    put_user_boundary = put_boundary(User); delete_user_boundary = delete_boundary(User);
    put_role_boundary = put_boundary(Role); delete_role_boundary = delete_boundary(Role);
}
