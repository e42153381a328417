//! Users, groups and roles: creating, reading, listing, changing and removing them.

use super::answer;
use super::api::{Api, Outcome, paged};
use super::fault::Fault;
use super::names;
use crate::meta::{EntityKind, EntityRecord};
use crate::runtime::unix_millis;
use crate::s3::xml::Xml;

/// How often a change is tried again because somebody else changed the same.
pub(super) const ATTEMPTS: usize = 5;

fn field(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::User => "UserName",
        EntityKind::Group => "GroupName",
        EntityKind::Role => "RoleName",
    }
}

async fn create(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let params = &api.params;
    let name = names::name(params, field(kind), names::longest(kind))?;
    let path = names::path(params, "Path")?;
    let bound = params.filled("PermissionsBoundary").map(str::to_owned);
    let own = [("iam:permissionsboundary", bound.iter().cloned().collect::<Vec<_>>())];
    api.need_with(action, &format!("{}{path}{name}", kind.as_str()), &own)?;
    let role = kind == EntityKind::Role;
    let boundary = match bound {
        Some(arn) if kind != EntityKind::Group => Some(super::policies::referred(api, &arn).await?),
        _ => None,
    };
    let prefix = match kind {
        EntityKind::User => "AIDA",
        EntityKind::Group => "AGPA",
        EntityKind::Role => "AROA",
    };
    let entity = EntityRecord {
        id: api.tokens.new_id(prefix)?,
        account: api.account.id.clone(),
        kind,
        path: path.to_owned(),
        name: name.to_owned(),
        description: names::description(params)?,
        trust: if role { Some(names::trust(params, "AssumeRolePolicyDocument")?.to_owned()) } else { None },
        max_session_secs: if role { names::number(params, "MaxSessionDuration", 3600..=43200, 3600)? } else { 0 },
        boundary,
        tags: names::tags(params)?,
        created: unix_millis(),
    };
    let word = answer::word(kind);
    let taken = || format!("{word} with name {name} already exists.");
    api.store().create_entity(&entity).await.map_err(|e| Fault::from(e).told("EntityAlreadyExists", taken))?;
    Ok(Some(shown(api, &entity)))
}

/// The element of an entity.
fn shown(api: &Api<'_>, entity: &EntityRecord) -> Xml {
    let mut xml = Xml::without_declaration();
    let word = answer::word(entity.kind);
    xml.open(word);
    answer::entity(&mut xml, &api.account.number, entity);
    xml.close(word);
    xml
}

async fn list(api: &Api<'_>, kind: EntityKind, action: &str, name: &str) -> Outcome {
    let prefix = api.params.filled("PathPrefix").unwrap_or("/");
    api.need(action, &format!("{}{prefix}", kind.as_str()))?;
    let (after, most) = api.page()?;
    let found = api.store().entities(&api.account.id, kind, prefix, &after, most + 1).await?;
    let page = paged(found, most, |entity| &entity.name);
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, name, &page, |xml, entity| answer::entity(xml, &api.account.number, entity));
    Ok(Some(xml))
}

/// Changes an entity from what it is now.
pub(super) async fn change(
    api: &Api<'_>,
    entity: EntityRecord,
    to: impl Fn(&EntityRecord) -> Result<EntityRecord, Fault>,
) -> Result<EntityRecord, Fault> {
    let mut from = entity;
    for _ in 0..ATTEMPTS {
        let new = to(&from)?;
        if api.store().update_entity(&from, &new).await? {
            api.changed();
            return Ok(new);
        }
        from = api.store().entity(&from.id).await?.ok_or_else(|| Fault::no_such("It is gone."))?;
    }
    Err(Fault::changed_meanwhile())
}

async fn rename(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let (old, path_field, name_field) = match kind {
        EntityKind::Group => ("GroupName", "NewPath", "NewGroupName"),
        _ => ("UserName", "NewPath", "NewUserName"),
    };
    let entity = api.found(kind, old, action).await?;
    let name = match api.params.filled(name_field) {
        Some(_) => names::name(&api.params, name_field, names::longest(kind))?.to_owned(),
        None => entity.name.clone(),
    };
    let path = if api.params.filled(path_field).is_some() {
        names::path(&api.params, path_field)?.to_owned()
    } else {
        entity.path.clone()
    };
    // Whoever may rename it to this must be allowed to have it so.
    api.need(action, &format!("{}{path}{name}", kind.as_str()))?;
    let taken = || format!("{} with name {name} already exists.", answer::word(kind));
    let renamed = |from: &EntityRecord| Ok(EntityRecord { name: name.clone(), path: path.clone(), ..from.clone() });
    change(api, entity, renamed).await.map_err(|fault| fault.told("EntityAlreadyExists", taken))?;
    Ok(None)
}

async fn delete(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let entity = api.found(kind, field(kind), action).await?;
    let held = || "Cannot delete entity, must remove its access keys, policies, members and groups first.".to_owned();
    let deleted = api.store().delete_entity(&entity.id).await.map_err(|e| Fault::from(e).told("DeleteConflict", held))?;
    api.changed();
    if deleted {
        Ok(None)
    } else {
        Err(Fault::no_such(format!("The {} with name {} cannot be found.", kind.as_str(), entity.name)))
    }
}

async fn tag(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let entity = api.found(kind, field(kind), action).await?;
    let new = names::tags(&api.params)?;
    change(api, entity, |from| {
        let mut tags = from.tags.clone();
        tags.retain(|name, _| !new.keys().any(|n| n.eq_ignore_ascii_case(name)));
        tags.extend(new.clone());
        if tags.len() > 50 {
            Err(Fault::limit("There may be at most 50 tags"))
        } else {
            Ok(EntityRecord { tags, ..from.clone() })
        }
    })
    .await?;
    Ok(None)
}

async fn untag(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let entity = api.found(kind, field(kind), action).await?;
    let names = names::members(&api.params, "TagKeys", "");
    change(api, entity, |from| {
        let mut tags = from.tags.clone();
        tags.retain(|name, _| !names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        Ok(EntityRecord { tags, ..from.clone() })
    })
    .await?;
    Ok(None)
}

async fn list_tags(api: &Api<'_>, kind: EntityKind, action: &str) -> Outcome {
    let entity = api.found(kind, field(kind), action).await?;
    let mut xml = Xml::without_declaration();
    answer::tags(&mut xml, &entity.tags);
    xml.plain("IsTruncated", false);
    Ok(Some(xml))
}

pub(super) async fn create_user(api: &Api<'_>) -> Outcome {
    create(api, EntityKind::User, "iam:CreateUser").await
}

pub(super) async fn get_user(api: &Api<'_>) -> Outcome {
    match api.user_or_self("iam:GetUser").await? {
        Some(user) => Ok(Some(shown(api, &user))),
        None => {
            // The account itself, as AWS shows its root user.
            let mut xml = Xml::without_declaration();
            xml.open("User");
            xml.text("Path", "/");
            xml.text("UserName", &api.account.name);
            xml.text("UserId", &api.account.number);
            xml.text("Arn", &format!("arn:aws:iam::{}:root", api.account.number));
            answer::date(&mut xml, "CreateDate", api.account.created);
            xml.close("User");
            Ok(Some(xml))
        }
    }
}

pub(super) async fn list_users(api: &Api<'_>) -> Outcome {
    list(api, EntityKind::User, "iam:ListUsers", "Users").await
}

pub(super) async fn update_user(api: &Api<'_>) -> Outcome {
    rename(api, EntityKind::User, "iam:UpdateUser").await
}

pub(super) async fn delete_user(api: &Api<'_>) -> Outcome {
    delete(api, EntityKind::User, "iam:DeleteUser").await
}

pub(super) async fn tag_user(api: &Api<'_>) -> Outcome {
    tag(api, EntityKind::User, "iam:TagUser").await
}

pub(super) async fn untag_user(api: &Api<'_>) -> Outcome {
    untag(api, EntityKind::User, "iam:UntagUser").await
}

pub(super) async fn list_user_tags(api: &Api<'_>) -> Outcome {
    list_tags(api, EntityKind::User, "iam:ListUserTags").await
}

pub(super) async fn create_group(api: &Api<'_>) -> Outcome {
    create(api, EntityKind::Group, "iam:CreateGroup").await
}

pub(super) async fn list_groups(api: &Api<'_>) -> Outcome {
    list(api, EntityKind::Group, "iam:ListGroups", "Groups").await
}

pub(super) async fn update_group(api: &Api<'_>) -> Outcome {
    rename(api, EntityKind::Group, "iam:UpdateGroup").await
}

pub(super) async fn delete_group(api: &Api<'_>) -> Outcome {
    delete(api, EntityKind::Group, "iam:DeleteGroup").await
}

pub(super) async fn create_role(api: &Api<'_>) -> Outcome {
    create(api, EntityKind::Role, "iam:CreateRole").await
}

pub(super) async fn get_role(api: &Api<'_>) -> Outcome {
    let role = api.found(EntityKind::Role, "RoleName", "iam:GetRole").await?;
    Ok(Some(shown(api, &role)))
}

pub(super) async fn list_roles(api: &Api<'_>) -> Outcome {
    list(api, EntityKind::Role, "iam:ListRoles", "Roles").await
}

pub(super) async fn update_role(api: &Api<'_>) -> Outcome {
    let role = api.found(EntityKind::Role, "RoleName", "iam:UpdateRole").await?;
    let seconds = names::number(&api.params, "MaxSessionDuration", 3600..=43200, role.max_session_secs)?;
    let description = names::description(&api.params)?;
    let described = api.params.has("Description");
    change(api, role, |from| {
        let description = if described { description.clone() } else { from.description.clone() };
        Ok(EntityRecord { max_session_secs: seconds, description, ..from.clone() })
    })
    .await?;
    // An element of its own, though it is empty.
    Ok(Some(Xml::without_declaration()))
}

pub(super) async fn update_trust(api: &Api<'_>) -> Outcome {
    let role = api.found(EntityKind::Role, "RoleName", "iam:UpdateAssumeRolePolicy").await?;
    let trust = names::trust(&api.params, "PolicyDocument")?;
    change(api, role, |from| Ok(EntityRecord { trust: Some(trust.to_owned()), ..from.clone() })).await?;
    Ok(None)
}

pub(super) async fn delete_role(api: &Api<'_>) -> Outcome {
    delete(api, EntityKind::Role, "iam:DeleteRole").await
}

pub(super) async fn tag_role(api: &Api<'_>) -> Outcome {
    tag(api, EntityKind::Role, "iam:TagRole").await
}

pub(super) async fn untag_role(api: &Api<'_>) -> Outcome {
    untag(api, EntityKind::Role, "iam:UntagRole").await
}

pub(super) async fn list_role_tags(api: &Api<'_>) -> Outcome {
    list_tags(api, EntityKind::Role, "iam:ListRoleTags").await
}
