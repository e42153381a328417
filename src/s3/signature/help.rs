//! What is wrong with a signature that does not match.
//!
//! What the client is told is what AWS tells: the canonical request and the string to sign as they were understood, so that it can compare.
//! Beyond that the request is looked at as it could have been signed: for another host, with another encoding of the path, another region …;
//! if the signature holds for one of them, that is what differed. Somebody without the secret learns nothing by it: for them it never
//! holds. Neither the secret nor the signature that would have been right is told to anybody, in the log least of all.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::hosts::{Check, candidates};
use super::signed::{Given, Head, Path, View};
use crate::runtime::unix_millis;
use crate::s3::error::{Code, Failure};
use crate::s3::query::Query;
use crate::s3::{Settings, address, signature_v2};
use crate::telemetry::{Explanation, Explanations};
use crate::tokens::Tokens;
use crate::transfer::{Algorithm, Hasher};

/// The most forms of a request that are tried: each costs two hashes.
const MOST: usize = 128;
/// How much of what was signed is shown back, in bytes.
const MAX_SHOWN: usize = 16 * 1024;
/// What the specification leaves unencoded in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// The headers whose values a trace never holds.
const HIDDEN: [&str; 2] = ["x-amz-security-token", "authorization"];

/// What was signed otherwise than it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// `host`, `port`, `path`, `region`, `method`, `payload`, `query`, or the name of a header.
    pub(super) field: &'static str,
    pub(super) came: String,
    pub(super) signed: String,
}

/// Makes a failed check of a signature tell more, and leaves word for `sluice explain`.
pub(in crate::s3) async fn explain(
    failure: Failure,
    head: &Head,
    tokens: &Tokens,
    settings: &Settings,
    request_id: &str,
) -> Failure {
    let code = failure.code();
    let mut facts: Vec<(&'static str, String)> = vec![
        ("method", head.method.to_string()),
        ("path", head.uri.path().to_owned()),
        ("host", head.host().unwrap_or_default().to_owned()),
    ];
    let read = head.read();
    if let Some((given, _)) = &read {
        facts.push(("access key", given.access_key.clone()));
        facts.push(("region", given.region.clone()));
        facts.push(("service", given.service.clone()));
        facts.push(("signed at", given.date.fmt_iso8601().to_string()));
        facts.push(("signed headers", given.signed_headers.join(";")));
    }
    let failure = match (code, &read) {
        (Code::SignatureDoesNotMatch, Some((given, view))) => {
            mismatch(failure, head, given, view, tokens, settings, &mut facts).await
        }
        (Code::SignatureDoesNotMatch, None) => signature_v2::explained(failure, &head.method, &head.uri, &head.headers, settings),
        (Code::RequestTimeTooSkewed, _) => skewed(failure, head, &mut facts),
        _ => failure,
    };
    facts.push(("message", failure.message().to_owned()));
    tracing::debug!(request_id, code = code.name(), ?facts, "the check of a signature failed");
    Explanations::here().add(Explanation { request_id: request_id.to_owned(), at: unix_millis(), code: code.name(), facts });
    failure
}

/// Whether a failure is one of those that are explained.
pub(in crate::s3) fn is_about_signature(code: Code) -> bool {
    matches!(
        code,
        Code::SignatureDoesNotMatch
            | Code::RequestTimeTooSkewed
            | Code::InvalidAccessKeyId
            | Code::InvalidToken
            | Code::ExpiredToken
            | Code::AuthorizationHeaderMalformed
            | Code::AuthorizationQueryParametersError
    )
}

async fn mismatch(
    failure: Failure,
    head: &Head,
    given: &Given,
    view: &View,
    tokens: &Tokens,
    settings: &Settings,
    facts: &mut Vec<(&'static str, String)>,
) -> Failure {
    let Ok(Some(credential)) = tokens.credential(&given.access_key).await else { return failure };
    let check = Check::new(given, &credential.secret, &given.region);
    let canonical = view.canonical();
    let text = check.string_to_sign(&canonical);
    let mut failure = failure;
    if let Some(difference) = difference(head, given, view, &check, settings)
        .or_else(|| other_region(given, view, settings, |region| Check::new(given, &credential.secret, region)))
    {
        let Difference { field, came, signed } = &difference;
        let (came, signed) =
            if HIDDEN.contains(field) { ("(not shown)", "(not shown)") } else { (came.as_str(), signed.as_str()) };
        tracing::warn!(access_key = given.access_key, field, came, signed, "a signature would be valid with another {field}");
        facts.push(("differs", (*field).to_owned()));
        facts.push(("came as", came.to_owned()));
        facts.push(("signed as", signed.to_owned()));
        facts.push(("what to do", advice(field).to_owned()));
        let message = format!(
            "{} The signature is valid for another {field}: \"{signed}\" was signed, and \"{came}\" has come.",
            Code::SignatureDoesNotMatch.message()
        );
        failure = Failure::because(Code::SignatureDoesNotMatch, message);
    } else {
        facts.push(("differs", "nothing that was tried: the secret, or something else that was signed".to_owned()));
    }
    let shown = |text: &str| text.len() <= MAX_SHOWN;
    failure = failure.field("AWSAccessKeyId", given.access_key.clone());
    if shown(&text) && shown(&canonical) {
        failure = failure
            .field("StringToSign", text.clone())
            .field("SignatureProvided", hex::encode(given.signature))
            .field("StringToSignBytes", bytes(&text))
            .field("CanonicalRequest", canonical.clone())
            .field("CanonicalRequestBytes", bytes(&canonical));
    }
    failure
}

/// As AWS writes them: hexadecimal, with spaces.
pub(in crate::s3) fn bytes(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 3);
    for (at, byte) in text.bytes().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if at == 0 { "" } else { " " });
    }
    out
}

fn skewed(failure: Failure, head: &Head, facts: &mut Vec<(&'static str, String)>) -> Failure {
    let query = Query::parse(head.uri.query()).unwrap_or_default();
    let said = head.header("x-amz-date").or_else(|| query.get("X-Amz-Date")).or_else(|| head.header("date"));
    let now = crate::s3::dates::iso(std::time::SystemTime::now());
    facts.push(("signed at", said.unwrap_or_default().to_owned()));
    facts.push(("clock of the gateway", now.clone()));
    facts.push(("what to do", "set the clock of the client, or of the gateway".to_owned()));
    failure.field("RequestTime", said.unwrap_or_default()).field("ServerTime", now).field("MaxAllowedSkewMilliseconds", "900000")
}

fn advice(field: &str) -> &'static str {
    match field {
        "host" | "port" => "name the host that clients use in s3.public_hosts, or let the proxy pass the Host header on",
        "path" => "let the proxy pass the path on as it came, and the client sign it as it sends it",
        "region" => "set the region of the client",
        "method" => "let the proxy pass the method on as it came",
        "query" => "let the client sign the query as it sends it",
        _ => "let the proxy pass the header on as it came",
    }
}

/// The first form of the request for which the signature holds.
fn difference(head: &Head, given: &Given, view: &View, check: &Check<'_>, settings: &Settings) -> Option<Difference> {
    let mut left = MOST;
    let mut holds = |view: &View| {
        left = left.checked_sub(1)?;
        check.holds(view).then_some(())
    };
    let host = view.header("host").unwrap_or_default().to_owned();
    let hosts = hosts(head, settings, &host);
    let paths = paths(head, settings, view);
    for signed in &hosts {
        if holds(&view.with_header("host", signed)).is_some() {
            let field = if name_of(signed) == name_of(&host) { "port" } else { "host" };
            return Some(Difference { field, came: host, signed: signed.clone() });
        }
    }
    for path in &paths {
        if holds(&View { path: path.clone(), ..view.clone() }).is_some() {
            return Some(Difference { field: "path", came: head.uri.path().to_owned(), signed: written(path) });
        }
    }
    for (came, signed) in [("HEAD", "GET"), ("GET", "HEAD"), ("POST", "PUT")] {
        if view.method == came && holds(&View { method: signed.to_owned(), ..view.clone() }).is_some() {
            return Some(Difference { field: "method", came: came.to_owned(), signed: signed.to_owned() });
        }
    }
    if !given.presigned {
        for payload in ["UNSIGNED-PAYLOAD".to_owned(), hex::encode(Hasher::once(Algorithm::Sha256, b""))] {
            if holds(&View { payload: payload.clone(), ..view.clone() }).is_some() {
                return Some(Difference { field: "payload", came: view.payload.clone(), signed: payload });
            }
        }
    }
    for (name, values) in [
        ("accept-encoding", ["identity", "gzip", ""]),
        ("user-agent", ["", "-", "curl"]),
        ("connection", ["keep-alive", "close", ""]),
    ] {
        let Some(came) = view.header(name).map(str::to_owned) else { continue };
        for signed in values {
            if holds(&view.with_header(name, signed)).is_some() {
                return Some(Difference { field: name, came, signed: signed.to_owned() });
            }
        }
    }
    let plus = Query::parse(head.uri.query().map(|query| query.replace('+', "%2B")).as_deref()).ok()?.sorted();
    if plus != view.query && holds(&View { query: plus, ..view.clone() }).is_some() {
        let shown = |pair: &&str| pair.contains('+') && !pair.to_ascii_lowercase().starts_with("x-amz-security-token");
        let came = head.uri.query().unwrap_or_default().split('&').filter(shown).collect::<Vec<_>>().join("&");
        return Some(Difference { field: "query", signed: came.replace('+', "%2B"), came });
    }
    // A proxy that changes one thing often changes the other.
    for signed in &hosts {
        for path in &paths {
            if holds(&View { path: path.clone(), ..view.with_header("host", signed) }).is_some() {
                let came = format!("{host}{}", head.uri.path());
                return Some(Difference { field: "host", came, signed: format!("{signed}{}", written(path)) });
            }
        }
    }
    None
}

fn other_region<'a>(given: &Given, view: &View, settings: &Settings, check: impl Fn(&str) -> Check<'a>) -> Option<Difference> {
    let regions = [settings.region.as_str(), "us-east-1", "", "auto", "default"];
    let other = regions.into_iter().filter(|region| *region != given.region);
    let found = other.into_iter().find(|region| check(region).holds(view))?;
    Some(Difference { field: "region", came: given.region.clone(), signed: found.to_owned() })
}

fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn hosts(head: &Head, settings: &Settings, host: &str) -> Vec<String> {
    let name = name_of(host);
    let bucket = address::bucket_of_host(host, &settings.domains);
    let mut hosts: Vec<String> = vec![name.to_owned(), format!("{name}:80"), format!("{name}:443")];
    for public in candidates(head, settings).chain(settings.domains.iter().map(String::as_str)).take(16) {
        for host in [public.to_owned(), name_of(public).to_owned(), format!("{}:443", name_of(public))] {
            hosts.extend(bucket.map(|bucket| format!("{bucket}.{host}")));
            hosts.push(host);
        }
    }
    hosts.extend(["localhost", "127.0.0.1"].map(|local| host.replacen(name, local, 1)));
    let mut seen = std::collections::BTreeSet::from([host.to_owned()]);
    hosts.retain(|host| seen.insert(host.clone()));
    hosts
}

/// The paths that may have been signed for the one that came.
fn paths(head: &Head, settings: &Settings, view: &View) -> Vec<Path> {
    let raw = head.uri.path();
    let decoded = percent_decode_str(raw).decode_utf8_lossy().into_owned();
    let collapsed = |path: &str| {
        let mut out = String::with_capacity(path.len());
        for c in path.chars() {
            if !(c == '/' && out.ends_with('/')) {
                out.push(c);
            }
        }
        out
    };
    let mut paths = vec![
        Path::Raw(raw.to_owned()),
        // Encoded twice, as for services other than S3.
        Path::Raw(utf8_percent_encode(&utf8_percent_encode(&decoded, PATH).to_string(), PATH).to_string()),
        Path::Raw(decoded.clone()),
        // Decoded once too often, or not often enough, on the way.
        Path::Decoded(percent_decode_str(&decoded).decode_utf8_lossy().into_owned()),
        Path::Decoded(decoded.replace('+', " ")),
        Path::Decoded(decoded.replace(' ', "+")),
        Path::Raw(raw.replace("%20", "+")),
        Path::Decoded(collapsed(&decoded)),
        Path::Decoded(format!("/{decoded}")),
        Path::Decoded(match decoded.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
            _ => format!("{decoded}/"),
        }),
    ];
    if let Some(bucket) = view.header("host").and_then(|host| address::bucket_of_host(host, &settings.domains)) {
        paths.push(Path::Decoded(format!("/{bucket}{decoded}")));
    } else if let Some(at) = decoded.get(1..).and_then(|rest| rest.find('/')) {
        // In the style of virtual hosts, or beneath a prefix that is taken off.
        paths.push(Path::Decoded(decoded.get(at + 1..).unwrap_or("/").to_owned()));
    }
    paths.retain(|path| *path != view.path);
    paths
}

fn written(path: &Path) -> String {
    match path {
        Path::Raw(path) => path.clone(),
        Path::Decoded(path) => utf8_percent_encode(path, PATH).to_string(),
    }
}
