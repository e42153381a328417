//! Access keys of users, and of the account itself.

use super::answer;
use super::api::{Api, Outcome, paged};
use super::fault::Fault;
use super::names;
use crate::meta::{AccessKeyRecord, EntityRecord};
use crate::s3::xml::Xml;

/// The most keys of a user.
const MAX_KEYS: usize = 2;

fn status(active: bool) -> &'static str {
    if active { "Active" } else { "Inactive" }
}

fn owner<'n>(api: &'n Api<'_>, user: Option<&'n EntityRecord>) -> &'n str {
    user.map_or(&api.account.name, |user| &user.name)
}

pub(super) async fn create(api: &Api<'_>) -> Outcome {
    let user = api.user_or_self("iam:CreateAccessKey").await?;
    if let Some(user) = &user
        && api.store().access_keys_of(&api.account.id, Some(&user.id), "", MAX_KEYS).await?.len() >= MAX_KEYS
    {
        return Err(Fault::limit(format!("Cannot exceed quota for AccessKeysPerUser: {MAX_KEYS}")));
    }
    let (key, secret) = api.tokens.create_key_for(&api.account, user.as_ref().map(|user| user.id.as_str())).await?;
    let mut xml = Xml::without_declaration();
    xml.open("AccessKey");
    xml.text("UserName", owner(api, user.as_ref()));
    xml.text("AccessKeyId", &key.access_key);
    xml.text("Status", status(true));
    xml.text("SecretAccessKey", secret.expose());
    answer::date(&mut xml, "CreateDate", key.created);
    xml.close("AccessKey");
    Ok(Some(xml))
}

pub(super) async fn list(api: &Api<'_>) -> Outcome {
    let user = api.user_or_self("iam:ListAccessKeys").await?;
    let (after, most) = api.page()?;
    let id = user.as_ref().map(|user| user.id.as_str());
    let page = paged(api.store().access_keys_of(&api.account.id, id, &after, most + 1).await?, most, |key| &key.access_key);
    let name = owner(api, user.as_ref());
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "AccessKeyMetadata", &page, |xml, key| {
        xml.text("UserName", name);
        xml.text("AccessKeyId", &key.access_key);
        xml.text("Status", status(key.active));
        answer::date(xml, "CreateDate", key.created);
    });
    Ok(Some(xml))
}

/// The key that the form names, of the user that it names.
async fn key(api: &Api<'_>, action: &str) -> Result<AccessKeyRecord, Fault> {
    let user = api.user_or_self(action).await?;
    let id = api.params.filled("AccessKeyId").ok_or_else(|| names::missing("AccessKeyId"))?;
    let found = api.store().access_key(id).await?;
    let user = user.map(|user| user.id);
    found.filter(|key| key.account == api.account.id && key.user == user).ok_or_else(|| {
        Fault::no_such(format!("The Access Key with id {} cannot be found", id.chars().take(128).collect::<String>()))
    })
}

pub(super) async fn update(api: &Api<'_>) -> Outcome {
    let key = key(api, "iam:UpdateAccessKey").await?;
    let active = match api.params.get("Status") {
        Some("Active") => true,
        Some("Inactive") => false,
        _ => return Err(Fault::validation("Status must be Active or Inactive")),
    };
    let changed = api.store().update_access_key(&AccessKeyRecord { active, ..key.clone() }).await;
    // Also after an error: the store may have done it and failed to say so.
    api.tokens.key_changed(&key.access_key).await;
    if changed? { Ok(None) } else { Err(Fault::no_such("The Access Key cannot be found")) }
}

pub(super) async fn delete(api: &Api<'_>) -> Outcome {
    let key = key(api, "iam:DeleteAccessKey").await?;
    if api.tokens.delete_key(&key.access_key).await? { Ok(None) } else { Err(Fault::no_such("The Access Key cannot be found")) }
}

pub(super) async fn last_used(api: &Api<'_>) -> Outcome {
    let id = api.params.filled("AccessKeyId").ok_or_else(|| names::missing("AccessKeyId"))?;
    let denied = || api.need("iam:GetAccessKeyLastUsed", "user/*");
    let found = api.store().access_key(id).await?.filter(|key| key.account == api.account.id);
    // Of another account's key nothing is told, not even that it is there.
    let Some(key) = found else {
        denied()?;
        return Err(Fault::no_such("The Access Key cannot be found"));
    };
    let user = match &key.user {
        Some(user) => api.store().entity(user).await?,
        None => None,
    };
    match &user {
        Some(user) => api.need("iam:GetAccessKeyLastUsed", &names::place(user))?,
        None => denied()?,
    }
    let mut xml = Xml::without_declaration();
    xml.text("UserName", owner(api, user.as_ref()));
    xml.open("AccessKeyLastUsed");
    match api.tokens.last_use(&key.access_key, key.last_used) {
        Some(at) => {
            answer::date(&mut xml, "LastUsedDate", at);
            xml.text("ServiceName", "s3");
        }
        None => xml.text("ServiceName", "N/A"),
    }
    xml.text("Region", "N/A");
    xml.close("AccessKeyLastUsed");
    Ok(Some(xml))
}
