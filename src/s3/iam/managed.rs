//! Managed policies and their versions.

use super::answer;
use super::api::{Api, Outcome, cut, paged};
use super::fault::Fault;
use super::names;
use crate::meta::{EntityKind, PolicyRecord, PolicyUse, PolicyVersionRecord};
use crate::runtime::unix_millis;
use crate::s3::xml::Xml;
use crate::tokens::{BUILT_IN, BuiltIn};

/// The most characters of a document, white space aside.
const MAX_WEIGHT: usize = 6144;
/// The most versions of a policy.
const MAX_VERSIONS: usize = 5;
/// How many users of a policy are counted, at most.
const MAX_USERS: usize = 10_000;

/// A policy of the account or of the gateway.
enum Found {
    Own(PolicyRecord),
    BuiltIn(&'static BuiltIn),
}

fn place(arn: &str) -> String {
    arn.split_once(":policy/").map_or_else(|| "policy/*".to_owned(), |(_, place)| format!("policy/{place}"))
}

async fn found(api: &Api<'_>, action: &str) -> Result<(String, Found), Fault> {
    let arn = api.params.filled("PolicyArn").ok_or_else(|| names::missing("PolicyArn"))?;
    api.need(action, &place(arn))?;
    if let Some(policy) = BuiltIn::by_arn(arn) {
        return Ok((arn.to_owned(), Found::BuiltIn(policy)));
    }
    let found = api.tokens.managed_policy(&api.account.id, &api.account.number, arn).await?;
    let missing = || Fault::no_such(format!("Policy {} was not found.", arn.chars().take(256).collect::<String>()));
    Ok((arn.to_owned(), Found::Own(found.ok_or_else(missing)?)))
}

/// A policy that may be changed.
async fn own(api: &Api<'_>, action: &str) -> Result<PolicyRecord, Fault> {
    match found(api, action).await? {
        (_, Found::Own(policy)) => Ok(policy),
        (_, Found::BuiltIn(_)) => Err(Fault::denied("A policy that is part of the gateway cannot be changed.")),
    }
}

fn document<'a>(api: &'a Api<'_>) -> Result<&'a str, Fault> {
    let document = names::document(&api.params, "PolicyDocument")?;
    if names::weight(document) > MAX_WEIGHT {
        return Err(Fault::limit(format!("Cannot exceed quota for PolicySize: {MAX_WEIGHT}")));
    }
    Ok(document)
}

async fn attachments(api: &Api<'_>, arn: &str) -> Result<(usize, usize), Fault> {
    let users = api.store().policy_users(&api.account.id, arn, "", MAX_USERS).await?;
    let attached = users.iter().filter(|(_, usage)| *usage == PolicyUse::Attached).count();
    Ok((attached, users.len() - attached))
}

fn shown(xml: &mut Xml, api: &Api<'_>, arn: &str, found: &Found, counts: Option<(usize, usize)>, whole: bool) {
    let (name, id, path, default, created, updated, description) = match found {
        Found::Own(p) => {
            (p.name.as_str(), p.id.clone(), p.path.as_str(), p.default_version, p.created, p.updated, p.description.as_str())
        }
        Found::BuiltIn(p) => (
            p.name,
            format!("ANPA{}", p.name.to_ascii_uppercase()),
            "/",
            1,
            api.account.created,
            api.account.created,
            p.description,
        ),
    };
    xml.text("PolicyName", name);
    xml.text("PolicyId", &id);
    xml.text("Arn", arn);
    xml.text("Path", path);
    xml.text("DefaultVersionId", &format!("v{default}"));
    if let Some((attached, boundaries)) = counts {
        xml.plain("AttachmentCount", attached);
        xml.plain("PermissionsBoundaryUsageCount", boundaries);
    }
    xml.plain("IsAttachable", true);
    if whole && !description.is_empty() {
        xml.text("Description", description);
    }
    answer::date(xml, "CreateDate", created);
    answer::date(xml, "UpdateDate", updated);
    if let Found::Own(policy) = found
        && whole
        && !policy.tags.is_empty()
    {
        answer::tags(xml, &policy.tags);
    }
}

pub(super) async fn create(api: &Api<'_>) -> Outcome {
    let name = names::name(&api.params, "PolicyName", 128)?;
    let path = names::path(&api.params, "Path")?;
    api.need("iam:CreatePolicy", &format!("policy{path}{name}"))?;
    let (document, at) = (document(api)?, unix_millis());
    let policy = PolicyRecord {
        id: api.tokens.new_id("ANPA")?,
        account: api.account.id.clone(),
        path: path.to_owned(),
        name: name.to_owned(),
        description: names::description(&api.params)?,
        default_version: 1,
        tags: names::tags(&api.params)?,
        created: at,
        updated: at,
    };
    let taken = || format!("A policy called {name} already exists. Duplicate names are not allowed.");
    api.store().create_policy(&policy, document).await.map_err(|e| Fault::from(e).told("EntityAlreadyExists", taken))?;
    let arn = names::policy_arn(&api.account.number, &policy);
    let mut xml = Xml::without_declaration();
    xml.open("Policy");
    shown(&mut xml, api, &arn, &Found::Own(policy), Some((0, 0)), true);
    xml.close("Policy");
    Ok(Some(xml))
}

pub(super) async fn get(api: &Api<'_>) -> Outcome {
    let (arn, found) = found(api, "iam:GetPolicy").await?;
    let counts = attachments(api, &arn).await?;
    let mut xml = Xml::without_declaration();
    xml.open("Policy");
    shown(&mut xml, api, &arn, &found, Some(counts), true);
    xml.close("Policy");
    Ok(Some(xml))
}

/// Those of the account first, then those of the gateway: `Scope` `Local` or `AWS` asks for one kind.
pub(super) async fn list(api: &Api<'_>) -> Outcome {
    api.need("iam:ListPolicies", "policy/*")?;
    let (after, most) = api.page()?;
    let prefix = api.params.filled("PathPrefix").unwrap_or("/");
    let scope = api.params.filled("Scope").unwrap_or("All");
    if !["All", "AWS", "Local"].contains(&scope) {
        return Err(Fault::validation("Scope must be All, AWS or Local"));
    }
    // A marker of the second kind begins with a sign that no name has.
    let built_in_after = after.strip_prefix(':');
    let mut policies: Vec<(String, Found)> = Vec::new();
    if scope != "AWS" && built_in_after.is_none() {
        let own = api.store().policies(&api.account.id, prefix, &after, most + 1).await?;
        policies.extend(own.into_iter().map(|policy| (policy.name.clone(), Found::Own(policy))));
    }
    if scope != "Local" && prefix == "/" {
        let rest = BUILT_IN.iter().filter(|policy| built_in_after.is_none_or(|after| policy.name > after));
        policies.extend(rest.map(|policy| (format!(":{}", policy.name), Found::BuiltIn(policy))));
    }
    let page = paged(policies, most, |(name, _)| name);
    let mut counted = Vec::with_capacity(page.0.len());
    for (_, found) in page.0 {
        let arn = match &found {
            Found::Own(policy) => names::policy_arn(&api.account.number, policy),
            Found::BuiltIn(policy) => policy.arn(),
        };
        let counts = attachments(api, &arn).await?;
        counted.push((arn, found, counts));
    }
    if api.params.get("OnlyAttached") == Some("true") {
        counted.retain(|(_, _, (attached, _))| *attached > 0);
    }
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "Policies", &(counted, page.1), |xml, (arn, found, counts)| {
        shown(xml, api, arn, found, Some(*counts), false);
    });
    Ok(Some(xml))
}

pub(super) async fn delete(api: &Api<'_>) -> Outcome {
    let policy = own(api, "iam:DeletePolicy").await?;
    // As on AWS, the other versions go first.
    if api.store().policy_versions(&policy.id).await?.len() > 1 {
        let what = "This policy has more than one version. Before you delete a policy, you must delete the policy's versions.";
        return Err(Fault::new(409, "DeleteConflict", what));
    }
    let used = || "Cannot delete a policy attached to entities.".to_owned();
    let deleted = api.store().delete_policy(&policy.id).await.map_err(|e| Fault::from(e).told("DeleteConflict", used))?;
    api.changed();
    if deleted { Ok(None) } else { Err(Fault::no_such(format!("Policy {} was not found.", policy.name))) }
}

fn version(xml: &mut Xml, version: &PolicyVersionRecord, default: u32, document: bool) {
    if document {
        xml.text("Document", &answer::encoded(&version.document));
    }
    xml.text("VersionId", &format!("v{}", version.version));
    xml.plain("IsDefaultVersion", version.version == default);
    answer::date(xml, "CreateDate", version.created);
}

pub(super) async fn create_version(api: &Api<'_>) -> Outcome {
    let policy = own(api, "iam:CreatePolicyVersion").await?;
    let default = api.params.get("SetAsDefault") == Some("true");
    let (document, at) = (document(api)?, unix_millis());
    let full = || {
        "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version."
            .to_owned()
    };
    let added = api.store().add_policy_version(&policy.id, document, at, default, MAX_VERSIONS).await;
    api.changed();
    let number = added.map_err(|e| Fault::from(e).told("LimitExceeded", full))?;
    let mut xml = Xml::without_declaration();
    xml.open("PolicyVersion");
    let record = PolicyVersionRecord { version: number, document: String::new(), created: at };
    version(&mut xml, &record, if default { number } else { 0 }, false);
    xml.close("PolicyVersion");
    Ok(Some(xml))
}

async fn versions(api: &Api<'_>, found: Found) -> Result<(Vec<PolicyVersionRecord>, u32), Fault> {
    match found {
        Found::Own(policy) => Ok((api.store().policy_versions(&policy.id).await?, policy.default_version)),
        Found::BuiltIn(policy) => {
            let only = PolicyVersionRecord { version: 1, document: policy.document.to_owned(), created: api.account.created };
            Ok((vec![only], 1))
        }
    }
}

/// The number of the version that the form names.
fn number(api: &Api<'_>) -> Result<u32, Fault> {
    let text = api.params.filled("VersionId").ok_or_else(|| names::missing("VersionId"))?;
    let number = text.strip_prefix('v').and_then(|number| number.parse().ok());
    number.ok_or_else(|| Fault::validation("VersionId must be v and a number"))
}

fn no_version(number: u32) -> Fault {
    Fault::no_such(format!("Policy version v{number} does not exist."))
}

pub(super) async fn get_version(api: &Api<'_>) -> Outcome {
    let (_, found) = found(api, "iam:GetPolicyVersion").await?;
    let number = number(api)?;
    let (versions, default) = versions(api, found).await?;
    let record = versions.into_iter().find(|version| version.version == number).ok_or_else(|| no_version(number))?;
    let mut xml = Xml::without_declaration();
    xml.open("PolicyVersion");
    version(&mut xml, &record, default, true);
    xml.close("PolicyVersion");
    Ok(Some(xml))
}

pub(super) async fn list_versions(api: &Api<'_>) -> Outcome {
    let (_, found) = found(api, "iam:ListPolicyVersions").await?;
    let (versions, default) = versions(api, found).await?;
    let mut xml = Xml::without_declaration();
    answer::list(&mut xml, "Versions", &(versions, None), |xml, record| version(xml, record, default, false));
    Ok(Some(xml))
}

pub(super) async fn set_default_version(api: &Api<'_>) -> Outcome {
    let policy = own(api, "iam:SetDefaultPolicyVersion").await?;
    let number = number(api)?;
    let set = api.store().set_default_policy_version(&policy.id, number, unix_millis()).await;
    api.changed();
    if set? { Ok(None) } else { Err(no_version(number)) }
}

pub(super) async fn delete_version(api: &Api<'_>) -> Outcome {
    let policy = own(api, "iam:DeletePolicyVersion").await?;
    let number = number(api)?;
    let used = || "Cannot delete the default version of a policy.".to_owned();
    let deleted = api.store().delete_policy_version(&policy.id, number).await;
    if deleted.map_err(|e| Fault::from(e).told("DeleteConflict", used))? { Ok(None) } else { Err(no_version(number)) }
}

pub(super) async fn list_entities(api: &Api<'_>) -> Outcome {
    let (arn, _) = found(api, "iam:ListEntitiesForPolicy").await?;
    let wanted = match api.params.filled("PolicyUsageFilter") {
        Some("PermissionsBoundary") => PolicyUse::Boundary,
        _ => PolicyUse::Attached,
    };
    let (after, most) = api.page()?;
    let mut users = api.store().policy_users(&api.account.id, &arn, "", MAX_USERS).await?;
    users.retain(|(_, usage)| *usage == wanted);
    let page = cut(users, &after, most, |(entity, _)| &entity.id);
    let mut xml = Xml::without_declaration();
    for kind in [EntityKind::User, EntityKind::Group, EntityKind::Role] {
        let word = answer::word(kind);
        xml.open(&format!("Policy{word}s"));
        for (entity, _) in page.0.iter().filter(|(entity, _)| entity.kind == kind) {
            xml.open("member");
            xml.text(&format!("{word}Name"), &entity.name);
            xml.text(&format!("{word}Id"), &entity.id);
            xml.close("member");
        }
        xml.close(&format!("Policy{word}s"));
    }
    xml.plain("IsTruncated", page.1.is_some());
    if let Some(marker) = &page.1 {
        xml.text("Marker", marker);
    }
    Ok(Some(xml))
}
