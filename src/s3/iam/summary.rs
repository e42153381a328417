//! `GetAccountSummary` (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountSummary.html>).

use super::api::{Api, Outcome};
use crate::meta::EntityKind;
use crate::s3::xml::Xml;

/// How far is counted.
const MOST: usize = 10_000;

pub(super) async fn get(api: &Api<'_>) -> Outcome {
    api.need("iam:GetAccountSummary", "*")?;
    let id = &api.account.id;
    let count = async |kind| api.store().entities(id, kind, "/", "", MOST).await.map(|found| found.len());
    let (users, groups) = (count(EntityKind::User).await?, count(EntityKind::Group).await?);
    let (roles, policies) = (count(EntityKind::Role).await?, api.store().policies(id, "/", "", MOST).await?.len());
    let providers = api.tokens.openid_providers(id).await?.len();
    let keys = api.store().access_keys_of(id, None, "", 1).await?.len();
    let mut xml = Xml::without_declaration();
    xml.open("SummaryMap");
    for (name, value) in [
        ("AccessKeysPerUserQuota", 2),
        ("AccountAccessKeysPresent", keys),
        ("AssumeRolePolicySizeQuota", 2048),
        ("AttachedPoliciesPerGroupQuota", 10),
        ("AttachedPoliciesPerRoleQuota", 10),
        ("AttachedPoliciesPerUserQuota", 10),
        ("GroupPolicySizeQuota", 5120),
        ("Groups", groups),
        ("GroupsPerUserQuota", 10),
        ("GroupsQuota", MOST),
        ("Policies", policies),
        ("PoliciesQuota", MOST),
        ("PolicySizeQuota", 6144),
        ("Providers", providers),
        ("RolePolicySizeQuota", 10_240),
        ("Roles", roles),
        ("RolesQuota", MOST),
        ("UserPolicySizeQuota", 2048),
        ("Users", users),
        ("UsersQuota", MOST),
        ("VersionsPerPolicyQuota", 5),
    ] {
        xml.open("entry");
        xml.text("key", name);
        xml.plain("value", value);
        xml.close("entry");
    }
    xml.close("SummaryMap");
    Ok(Some(xml))
}
