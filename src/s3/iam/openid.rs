//! Identity providers of the account
//! (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html>).

use super::answer;
use super::api::{Api, Outcome};
use super::entities::ATTEMPTS;
use super::fault::Fault;
use super::names;
use crate::runtime::unix_millis;
use crate::s3::xml::Xml;
use crate::tokens::{MAX_CLIENTS, MAX_PROVIDERS, OpenIdProvider, issuer_place};

/// The most thumbprints of a provider.
const MAX_THUMBPRINTS: usize = 5;
/// The most tags.
const MAX_TAGS: usize = 50;

fn arn(api: &Api<'_>, place: &str) -> String {
    format!("arn:aws:iam::{}:oidc-provider/{place}", api.account.number)
}

fn clients(given: Vec<&str>) -> Result<Vec<String>, Fault> {
    if given.len() > MAX_CLIENTS {
        return Err(Fault::limit(format!("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {MAX_CLIENTS}")));
    }
    if given.iter().any(|client| !(1..=255).contains(&client.len())) {
        return Err(Fault::validation("A client ID has 1 to 255 characters"));
    }
    Ok(given.into_iter().map(str::to_owned).collect())
}

fn thumbprints(api: &Api<'_>) -> Result<Vec<String>, Fault> {
    let given = names::members(&api.params, "ThumbprintList", "");
    if given.len() > MAX_THUMBPRINTS {
        return Err(Fault::input(format!("Thumbprint list must contain fewer than {MAX_THUMBPRINTS} entries.")));
    }
    if given.iter().any(|text| text.len() != 40 || !text.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(Fault::validation("A thumbprint has 40 characters"));
    }
    Ok(given.into_iter().map(str::to_owned).collect())
}

pub(super) async fn create(api: &Api<'_>) -> Outcome {
    let url = api.params.filled("Url").ok_or_else(|| names::missing("Url"))?;
    let place = issuer_place(url);
    api.need("iam:CreateOpenIDConnectProvider", &format!("oidc-provider/{place}"))?;
    api.tokens.check_issuer(url)?;
    let provider = OpenIdProvider {
        url: url.to_owned(),
        clients: clients(names::members(&api.params, "ClientIDList", ""))?,
        thumbprints: thumbprints(api)?,
        tags: names::tags(&api.params)?,
        created: unix_millis(),
    };
    let others = api.tokens.openid_providers(&api.account.id).await?;
    let known = others.iter().any(|other| other.place() == place);
    if !known && others.len() >= MAX_PROVIDERS {
        return Err(Fault::limit(format!("Cannot exceed quota for OpenIdConnectProvidersPerAccount: {MAX_PROVIDERS}")));
    }
    if known || !api.tokens.add_openid_provider(&api.account.id, &provider).await? {
        let taken = format!("Provider with url {url} already exists.");
        return Err(Fault::new(409, "EntityAlreadyExists", taken));
    }
    let mut xml = Xml::without_declaration();
    xml.text("OpenIDConnectProviderArn", &arn(api, place));
    Ok(Some(xml))
}

pub(super) async fn list(api: &Api<'_>) -> Outcome {
    api.need("iam:ListOpenIDConnectProviders", "oidc-provider/*")?;
    let mut xml = Xml::without_declaration();
    xml.open("OpenIDConnectProviderList");
    for provider in api.tokens.openid_providers(&api.account.id).await? {
        xml.open("member");
        xml.text("Arn", &arn(api, provider.place()));
        xml.close("member");
    }
    xml.close("OpenIDConnectProviderList");
    Ok(Some(xml))
}

/// The provider that the form names, to which the sender may do this.
async fn found(api: &Api<'_>, action: &str) -> Result<OpenIdProvider, Fault> {
    let field = "OpenIDConnectProviderArn";
    let given = api.params.filled(field).ok_or_else(|| names::missing(field))?;
    let place = given.strip_prefix(&arn(api, "")).unwrap_or_default();
    api.need(action, &format!("oidc-provider/{}", if place.is_empty() { "*" } else { place }))?;
    let found = if place.is_empty() { None } else { api.tokens.openid_provider(&api.account.id, place).await? };
    found.ok_or_else(|| {
        let shown: String = given.chars().take(256).collect();
        Fault::no_such(format!("OpenIDConnect Provider not found for arn {shown}"))
    })
}

/// Changes the provider that the form names, from what it is now.
async fn change(api: &Api<'_>, action: &str, to: impl Fn(&OpenIdProvider) -> Result<OpenIdProvider, Fault>) -> Outcome {
    let mut from = found(api, action).await?;
    for _ in 0..ATTEMPTS {
        if api.tokens.replace_openid_provider(&api.account.id, &from, Some(&to(&from)?)).await? {
            return Ok(None);
        }
        from = found(api, action).await?;
    }
    Err(Fault::changed_meanwhile())
}

pub(super) async fn get(api: &Api<'_>) -> Outcome {
    let provider = found(api, "iam:GetOpenIDConnectProvider").await?;
    let mut xml = Xml::without_declaration();
    xml.text("Url", &provider.url);
    for (name, values) in [("ClientIDList", &provider.clients), ("ThumbprintList", &provider.thumbprints)] {
        xml.open(name);
        for value in values {
            xml.text("member", value);
        }
        xml.close(name);
    }
    answer::date(&mut xml, "CreateDate", provider.created);
    answer::tags(&mut xml, &provider.tags);
    Ok(Some(xml))
}

pub(super) async fn delete(api: &Api<'_>) -> Outcome {
    let mut provider = found(api, "iam:DeleteOpenIDConnectProvider").await?;
    for _ in 0..ATTEMPTS {
        if api.tokens.replace_openid_provider(&api.account.id, &provider, None).await? {
            return Ok(None);
        }
        provider = found(api, "iam:DeleteOpenIDConnectProvider").await?;
    }
    Err(Fault::changed_meanwhile())
}

pub(super) async fn add_client(api: &Api<'_>) -> Outcome {
    change(api, "iam:AddClientIDToOpenIDConnectProvider", |provider| {
        let client = api.params.filled("ClientID").ok_or_else(|| names::missing("ClientID"))?;
        let mut all: Vec<&str> = provider.clients.iter().map(String::as_str).collect();
        if !all.contains(&client) {
            all.push(client);
        }
        Ok(OpenIdProvider { clients: clients(all)?, ..provider.clone() })
    })
    .await
}

pub(super) async fn remove_client(api: &Api<'_>) -> Outcome {
    change(api, "iam:RemoveClientIDFromOpenIDConnectProvider", |provider| {
        let client = api.params.filled("ClientID").ok_or_else(|| names::missing("ClientID"))?;
        let mut provider = provider.clone();
        provider.clients.retain(|known| known != client);
        Ok(provider)
    })
    .await
}

pub(super) async fn set_thumbprints(api: &Api<'_>) -> Outcome {
    let action = "iam:UpdateOpenIDConnectProviderThumbprint";
    change(api, action, |provider| Ok(OpenIdProvider { thumbprints: thumbprints(api)?, ..provider.clone() })).await
}

pub(super) async fn tag(api: &Api<'_>) -> Outcome {
    change(api, "iam:TagOpenIDConnectProvider", |provider| {
        let (mut provider, new) = (provider.clone(), names::tags(&api.params)?);
        provider.tags.retain(|name, _| !new.keys().any(|n| n.eq_ignore_ascii_case(name)));
        provider.tags.extend(new);
        if provider.tags.len() > MAX_TAGS {
            return Err(Fault::limit(format!("There may be at most {MAX_TAGS} tags")));
        }
        Ok(provider)
    })
    .await
}

pub(super) async fn untag(api: &Api<'_>) -> Outcome {
    change(api, "iam:UntagOpenIDConnectProvider", |provider| {
        let (mut provider, names) = (provider.clone(), names::members(&api.params, "TagKeys", ""));
        provider.tags.retain(|name, _| !names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        Ok(provider)
    })
    .await
}

pub(super) async fn list_tags(api: &Api<'_>) -> Outcome {
    let provider = found(api, "iam:ListOpenIDConnectProviderTags").await?;
    let mut xml = Xml::without_declaration();
    answer::tags(&mut xml, &provider.tags);
    xml.plain("IsTruncated", false);
    Ok(Some(xml))
}
