//! `AssumeRoleWithWebIdentity`: a role for somebody whom an identity provider of the role's account vouches for
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).
//!
//! Nobody has to be known here to ask. So what an answer tells depends on nothing but the token until that has been believed: which
//! accounts and roles there are, nobody learns.

use std::collections::BTreeMap;

use super::api::{Api, Outcome};
use super::fault::Fault;
use super::{names, sts};
use crate::meta::SessionKind;
use crate::s3::xml::Xml;
use crate::tokens::policy::{Acting, Policy, Principal, Request, Said, Target};
use crate::tokens::{CLAIM, NewSession, PROVIDER, WebIdentity, issuer_place};

/// The action, which needs no signature.
pub(super) const ACTION: &str = "AssumeRoleWithWebIdentity";
/// The most claims of a token that a session remembers.
const MAX_REMEMBERED: usize = 32;
/// How long a session lasts that says nothing about it, in seconds.
const DEFAULT: u32 = 3600;

pub(super) async fn assume_role(api: &Api<'_>) -> Outcome {
    let arn = api.params.filled("RoleArn").ok_or_else(|| names::missing("RoleArn"))?;
    let number = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(':')).map(|(number, _)| number);
    let number = number.filter(|_| arn.len() <= 2048).ok_or_else(|| Fault::validation("RoleArn is no ARN of a role"))?;
    let name = sts::session_name(api, "RoleSessionName", 64)?;
    let token = api.params.filled("WebIdentityToken").ok_or_else(|| names::missing("WebIdentityToken"))?;
    let issuer = api.tokens.claimed_issuer(token)?;
    let place = issuer_place(&issuer);
    let provider = match api.store().account_by_number(number).await?.filter(|account| account.active) {
        Some(account) => api.tokens.openid_provider(&account.id, place).await?,
        None => None,
    };
    let unknown = || {
        let shown: String = issuer.chars().take(255).collect();
        Fault::new(400, "InvalidIdentityToken", format!("No OpenIDConnect provider found in your account for {shown}"))
    };
    let provider = provider.filter(|provider| provider.url == issuer).ok_or_else(unknown)?;
    let who = api.tokens.web_identity(&provider, token).await?;

    let provider_arn = format!("arn:aws:iam::{number}:oidc-provider/{place}");
    let refused = || Fault::denied("Not authorized to perform sts:AssumeRoleWithWebIdentity");
    let (account, role) = sts::role(api, arn).await?.ok_or_else(refused)?;
    let trust = role.trust.as_deref().and_then(|text| Policy::parse_trust(text).ok()).ok_or_else(refused)?;
    let own = keys(place, &provider_arn, &who, name);
    let values = |key: &str| own.get(key).cloned().unwrap_or_else(|| api.values(&[], key));
    let acting = Acting::Web { provider: &provider_arn, subject: &who.subject };
    let principal = Some(Principal { id: "", name: "", number: "", acting });
    let resource = names::place(&role);
    for action in ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"].into_iter().take(1 + usize::from(!who.tags.is_empty())) {
        let resource = Target { service: "iam", account: &account.number, name: &resource };
        let request = Request { principal, action, resource, values: &values };
        if !matches!(trust.say(&request), Said::Allow(_)) {
            return Err(refused());
        }
    }
    let seconds = names::number(&api.params, "DurationSeconds", 900..=43_200, DEFAULT)?;
    if seconds > role.max_session_secs {
        return Err(Fault::validation("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
    }
    let (policy, policy_arns) = sts::policies(api, &account).await?;
    let claims = own.iter().filter(|(key, values)| key.starts_with(&place.to_ascii_lowercase()) && values.len() == 1);
    let mut context: BTreeMap<String, String> =
        claims.take(MAX_REMEMBERED).map(|(key, values)| (format!("{CLAIM}{key}"), values.concat())).collect();
    context.insert(PROVIDER.to_owned(), provider_arn.clone());
    let new = NewSession {
        account: account.id.clone(),
        entity: Some(role.id.clone()),
        kind: SessionKind::WebIdentity,
        name: name.to_owned(),
        policy,
        policy_arns,
        tags: who.tags,
        context,
        seconds,
    };
    let issued = api.tokens.begin_session(new).await?;
    let mut xml = Xml::without_declaration();
    sts::credentials(&mut xml, &issued);
    xml.text("SubjectFromWebIdentityToken", &who.subject);
    xml.open("AssumedRoleUser");
    xml.text("AssumedRoleId", &format!("{}:{name}", role.id));
    xml.text("Arn", &format!("arn:aws:sts::{}:assumed-role/{}/{name}", account.number, role.name));
    xml.close("AssumedRoleUser");
    xml.plain("PackedPolicySize", 0);
    xml.text("Provider", &provider_arn);
    xml.text("Audience", &who.audience);
    Ok(Some(xml))
}

/// The condition keys of the request, in lower case: `ISSUER:CLAIM` for each claim, and what else there is to ask.
fn keys(place: &str, provider: &str, who: &WebIdentity, session: &str) -> BTreeMap<String, Vec<String>> {
    let place = place.to_ascii_lowercase();
    let mut keys: BTreeMap<String, Vec<String>> =
        who.claims.iter().map(|(claim, values)| (format!("{place}:{}", claim.to_ascii_lowercase()), values.clone())).collect();
    keys.insert("sts:rolesessionname".to_owned(), vec![session.to_owned()]);
    keys.insert("aws:federatedprovider".to_owned(), vec![provider.to_owned()]);
    keys.insert("aws:tagkeys".to_owned(), who.tags.keys().cloned().collect());
    for (tag, value) in &who.tags {
        keys.insert(format!("aws:requesttag/{}", tag.to_ascii_lowercase()), vec![value.clone()]);
    }
    keys
}
