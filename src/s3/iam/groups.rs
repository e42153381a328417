//! Who is in which group.

use super::answer;
use super::api::{Api, Outcome, paged};
use super::fault::Fault;
use crate::meta::EntityKind;
use crate::s3::xml::Xml;

/// The most groups of a user.
const MAX_GROUPS: usize = 10;

pub(super) async fn get(api: &Api<'_>) -> Outcome {
    let group = api.found(EntityKind::Group, "GroupName", "iam:GetGroup").await?;
    let (after, most) = api.page()?;
    let page = paged(api.store().members(&group.id, &after, most + 1).await?, most, |user| &user.name);
    let mut xml = Xml::without_declaration();
    xml.open("Group");
    answer::entity(&mut xml, &api.account.number, &group);
    xml.close("Group");
    answer::list(&mut xml, "Users", &page, |xml, user| answer::entity(xml, &api.account.number, user));
    Ok(Some(xml))
}

pub(super) async fn add_user(api: &Api<'_>) -> Outcome {
    let group = api.found(EntityKind::Group, "GroupName", "iam:AddUserToGroup").await?;
    let user = user(api).await?;
    let groups = api.store().groups_of(&user, "", MAX_GROUPS).await?;
    if groups.len() >= MAX_GROUPS && !groups.iter().any(|known| known.id == group.id) {
        return Err(Fault::limit(format!("Cannot exceed quota for GroupsPerUser: {MAX_GROUPS}")));
    }
    api.store().add_member(&group.id, &user).await?;
    api.changed();
    Ok(None)
}

pub(super) async fn remove_user(api: &Api<'_>) -> Outcome {
    let group = api.found(EntityKind::Group, "GroupName", "iam:RemoveUserFromGroup").await?;
    let user = user(api).await?;
    let removed = api.store().remove_member(&group.id, &user).await?;
    api.changed();
    if removed { Ok(None) } else { Err(Fault::no_such(format!("The user is not in group {}.", group.name))) }
}

/// The id of the user that the form names. The group is what the right is about.
async fn user(api: &Api<'_>) -> Result<String, Fault> {
    let name = super::names::name(&api.params, "UserName", 128)?;
    let found = api.store().entity_named(&api.account.id, EntityKind::User, name).await?;
    found.map(|user| user.id).ok_or_else(|| Fault::no_such(format!("The user with name {name} cannot be found.")))
}

pub(super) async fn of_user(api: &Api<'_>) -> Outcome {
    let user = api.found(EntityKind::User, "UserName", "iam:ListGroupsForUser").await?;
    let (after, most) = api.page()?;
    let page = paged(api.store().groups_of(&user.id, &after, most + 1).await?, most, |group| &group.name);
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "Groups", &page, |xml, group| answer::entity(xml, &api.account.number, group));
    Ok(Some(xml))
}
