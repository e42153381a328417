//! What a token says, once it is believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind as Wrong;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::crypto;
use super::keys::KeySet;
use super::provider::OpenIdProvider;
use crate::tokens::Tokens;

/// The longest token in bytes (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).
const MAX_TOKEN: usize = 20_000;
/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 60;
/// The most claims that conditions can ask for, and the most values of one.
const MAX_CLAIMS: usize = 64;
/// The longest subject and audience.
const MAX_NAME: usize = 255;
/// The claim with session tags (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>).
const TAGS: &str = "https://aws.amazon.com/tags";

/// Somebody whom a provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// The subject.
    pub subject: String,
    /// For which client: `azp` where the token has one, `aud` otherwise.
    pub audience: String,
    /// The claims that are texts, truths, numbers or lists of such, by name.
    pub claims: BTreeMap<String, Vec<String>>,
    /// Session tags that the provider sets.
    pub tags: BTreeMap<String, String>,
}

/// Why a token is not believed.
#[derive(Clone, Debug)]
pub enum WebRefusal {
    /// It is no token, or not one for here: for people.
    Invalid(&'static str),
    /// It is over.
    Expired,
    /// The issuer's keys cannot be read: for the log.
    Unreachable(Arc<str>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: OneOrMany,
    azp: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Who says to have issued a token. Nothing of it is verified.
pub(super) fn claimed_issuer(token: &str) -> Result<String, WebRefusal> {
    if token.len() > MAX_TOKEN {
        return Err(WebRefusal::Invalid("The token is too long."));
    }
    let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<Issuer>(token);
    claimed.map(|claims| claims.iss).map_err(|_| {
        WebRefusal::Invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
    })
}

impl Tokens {
    /// Who says to have issued a token. Nothing of it is verified.
    ///
    /// # Errors
    /// [`WebRefusal::Invalid`].
    pub fn claimed_issuer(&self, token: &str) -> Result<String, WebRefusal> {
        claimed_issuer(token)
    }

    /// Verifies a token of a provider.
    ///
    /// # Errors
    /// [`WebRefusal`].
    pub async fn web_identity(&self, provider: &OpenIdProvider, token: &str) -> Result<WebIdentity, WebRefusal> {
        crypto::install();
        let header = jsonwebtoken::decode_header(token).map_err(|_| WebRefusal::Invalid("The token cannot be read"))?;
        let algorithm = match header.alg {
            algorithm @ (Algorithm::RS256 | Algorithm::ES256) => algorithm,
            _ => return Err(WebRefusal::Invalid("The token must be signed with RS256 or ES256")),
        };
        if !self.issuers.admits(&provider.url) {
            return Err(WebRefusal::Invalid("This gateway takes no tokens of this issuer"));
        }
        let issuer = claimed_issuer(token)?;
        let fits = |key: &Jwk| suits(key, algorithm);
        let keys = self.issuers.keys(&issuer).await?;
        let mut found = key(&keys, header.kid.as_deref(), fits);
        if found.is_none()
            && let Some(newer) = self.issuers.newer_than(&issuer, &keys).await?
        {
            found = key(&newer, header.kid.as_deref(), fits);
        }
        let found = found.ok_or(WebRefusal::Invalid("Couldn't retrieve verification key from your identity provider"))?;
        read(provider, token, algorithm, &found)
    }
}

fn suits(key: &Jwk, algorithm: Algorithm) -> bool {
    let (wanted, named) = match key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(_) => (Algorithm::ES256, KeyAlgorithm::ES256),
        _ => return false,
    };
    let said = key.common.key_algorithm.is_none_or(|said| said == named);
    wanted == algorithm && said && key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
}

fn key(keys: &KeySet, id: Option<&str>, fits: impl Fn(&Jwk) -> bool) -> Option<DecodingKey> {
    keys.find(id, fits).and_then(|key| DecodingKey::from_jwk(key).ok())
}

/// Verifies and reads.
pub(super) fn read(
    provider: &OpenIdProvider,
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
) -> Result<WebIdentity, WebRefusal> {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    // Below, since a token may be for one client and meant for another.
    validation.validate_aud = false;
    validation.set_issuer(&[&provider.url]);
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|error| match error.kind() {
        Wrong::ExpiredSignature => WebRefusal::Expired,
        Wrong::ImmatureSignature => WebRefusal::Invalid("The token is not valid yet"),
        Wrong::InvalidIssuer => WebRefusal::Invalid("The token is of another issuer"),
        Wrong::InvalidSignature => WebRefusal::Invalid("The signature of the token is not one of its issuer"),
        _ => WebRefusal::Invalid("The token misses what it must hold, or cannot be read"),
    })?;
    let Claims { sub, aud, azp, rest } = claims.claims;
    let aud = match aud {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    };
    // As AWS does: the party that the token was issued to counts where it is named.
    let candidates = azp.as_ref().map_or(aud.as_slice(), std::slice::from_ref);
    let audience = candidates.iter().find(|audience| provider.clients.contains(audience));
    let audience = audience.cloned().ok_or(WebRefusal::Invalid("Incorrect token audience"))?;
    if sub.is_empty() || sub.len() > MAX_NAME || audience.len() > MAX_NAME || sub.chars().any(char::is_control) {
        return Err(WebRefusal::Invalid("The subject of the token has 1 to 255 characters"));
    }
    let tags = rest.get(TAGS).map(session_tags).transpose()?.unwrap_or_default();
    // Condition keys know no case: nothing else may pass for one of these.
    let own = |name: &str| ["iss", "sub", "aud", "azp", "oaud"].iter().any(|own| own.eq_ignore_ascii_case(name));
    let others = rest.iter().filter(|(name, _)| !own(name));
    let mut claims: BTreeMap<String, Vec<String>> =
        others.filter_map(|(name, value)| Some((name.clone(), texts(value)?))).take(MAX_CLAIMS).collect();
    claims.insert("sub".to_owned(), vec![sub.clone()]);
    claims.insert("aud".to_owned(), vec![audience.clone()]);
    if let Some(azp) = azp {
        claims.insert("azp".to_owned(), vec![azp]);
        claims.insert("oaud".to_owned(), aud);
    }
    Ok(WebIdentity { subject: sub, audience, claims, tags })
}

/// What a condition can compare of a claim.
fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().take(MAX_CLAIMS).map(one).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

fn session_tags(claim: &Value) -> Result<BTreeMap<String, String>, WebRefusal> {
    let wrong = || WebRefusal::Invalid("The tags of the token are not as they must be");
    let tags = claim.get("principal_tags").and_then(Value::as_object).ok_or_else(wrong)?;
    if tags.len() > 50 {
        return Err(wrong());
    }
    let read = |(name, value): (&String, &Value)| {
        let text = value.as_str().or_else(|| value.as_array().filter(|many| many.len() == 1)?.first()?.as_str());
        let sound = (1..=128).contains(&name.chars().count()) && !name.to_ascii_lowercase().starts_with("aws:");
        text.filter(|text| sound && text.chars().count() <= 256).map(|text| (name.clone(), text.to_owned()))
    };
    tags.iter().map(read).collect::<Option<_>>().ok_or_else(wrong)
}
