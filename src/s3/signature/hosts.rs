//! The names by which clients know a gateway that stands behind a proxy which changes the `Host` header.

use http::Request;
use http::header::{HOST, HeaderValue};
use subtle::ConstantTimeEq as _;

use super::signed::{Given, Head, View};
use crate::s3::Settings;
use crate::tokens::{Secret, Tokens};

/// The most hosts that are tried.
const MOST: usize = 16;

/// Checks signatures of one secret: the signing key is derived once.
pub(super) struct Check<'a> {
    given: &'a Given,
    key: [u8; 32],
    region: String,
}

impl<'a> Check<'a> {
    pub(super) fn new(given: &'a Given, secret: &Secret, region: &str) -> Self {
        let key = s3s_sigv4::derive_signing_key(secret.expose(), &given.date, region, &given.service);
        Self { given, key, region: region.to_owned() }
    }

    /// Whether the signature that was given is the one of this request.
    pub(super) fn holds(&self, view: &View) -> bool {
        let text = self.string_to_sign(&view.canonical());
        s3s_sigv4::calculate_signature_with_key(&text, &self.key).ct_eq(&self.given.signature).into()
    }

    pub(super) fn string_to_sign(&self, canonical: &str) -> String {
        s3s_sigv4::create_string_to_sign(canonical, &self.given.date, &self.region, &self.given.service)
    }
}

/// The hosts that a request may have been signed for, in their order: what a proxy says it was asked for, if that is one of the public ones
/// or a bucket of one, then the public ones.
pub(super) fn candidates<'h>(head: &'h Head, settings: &'h Settings) -> impl Iterator<Item = &'h str> {
    let said = head.header("x-forwarded-host").and_then(|hosts| hosts.split(',').next()).map(str::trim);
    let ours = |host: &&str| {
        settings.public_hosts.iter().any(|public| {
            let cut = host.len().checked_sub(public.len());
            cut.and_then(|cut| Some((host.get(..cut)?, host.get(cut..)?)))
                .is_some_and(|(bucket, tail)| tail.eq_ignore_ascii_case(public) && (bucket.is_empty() || bucket.ends_with('.')))
        })
    };
    said.filter(ours).into_iter().chain(settings.public_hosts.iter().map(String::as_str)).take(MOST)
}

/// Puts the public host into a request that was signed for it. Nothing happens to a request whose signature holds for no such host: the
/// framework sees it as it came.
pub(in crate::s3) async fn with_public_host<B>(mut request: Request<B>, tokens: &Tokens, settings: &Settings) -> Request<B> {
    let Some(head) = Head::of(&request) else { return request };
    if let Some(host) = signed_for(&head, tokens, settings).await
        && let Ok(value) = HeaderValue::from_str(&host)
    {
        request.headers_mut().insert(HOST, value);
    }
    request
}

async fn signed_for(head: &Head, tokens: &Tokens, settings: &Settings) -> Option<String> {
    let host = head.host()?;
    let direct = settings.public_hosts.iter().any(|public| public.eq_ignore_ascii_case(host));
    if direct && head.header("x-forwarded-host").is_none() {
        return None;
    }
    let (given, view) = head.read()?;
    let credential = tokens.credential(&given.access_key).await.ok()??;
    let check = Check::new(&given, &credential.secret, &given.region);
    // Who speaks to the gateway itself, by whatever name, is right as they are.
    if check.holds(&view) {
        return None;
    }
    candidates(head, settings).find(|host| check.holds(&view.with_header("host", host))).map(str::to_owned)
}
