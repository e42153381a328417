//! Signatures of Version 4 in the form that nearly every client sends
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! Such a request is in its canonical form already, so nothing has to be decoded, sorted and encoded again, and the key that signs is
//! derived once a day. That saves a fifth to a third of what a small request costs. Only what holds is let in here: whatever is in another form, too
//! early or too late or wrong goes to the framework, which finds out what is to be said. Nothing is let in here that the
//! framework would refuse (`docs/adr/0011-usual-signatures.md`).

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method, Request, Uri};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use s3s_sigv4::{AmzDate, AuthorizationV4, CredentialV4, EMPTY_STRING_SHA256_HASH};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::signed::MAX_EXPIRES;
use crate::s3::Settings;
use crate::s3::error::{Code, Result};
use crate::s3::headers::first;
use crate::s3::query::{Query, encoded};
use crate::tokens::{Credential, Tokens};
use crate::transfer::{Algorithm, Hasher};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const PAYLOAD: &str = "x-amz-content-sha256";
/// How far the clocks of client and gateway may be apart in seconds.
const MAX_SKEW: i64 = 900;
/// Places for signing keys.
const KEYS: usize = 512;

/// Whose signature holds, and what was read on the way.
pub(in crate::s3) struct Usual {
    pub(in crate::s3) credential: Arc<Credential>,
    pub(in crate::s3) query: Query,
}

/// Verifies a request for S3 that is signed in the usual form. `None` says nothing about it.
///
/// # Errors
/// `InvalidAccessKeyId`, and what else a look-up of the key says: the framework would look it up once more, and wait once more.
pub(in crate::s3) async fn usual<B>(
    request: &Request<B>,
    tokens: &Tokens,
    settings: &Settings,
    keys: &Keys,
) -> Result<Option<Usual>>
where
    B: http_body::Body,
{
    let Ok(query) = Query::parse(request.uri().query()) else { return Ok(None) };
    let Some((claim, canonical)) = Claim::of(request, settings, &query) else { return Ok(None) };
    let credential = tokens.credential(claim.access_key).await?.ok_or(Code::InvalidAccessKeyId)?;
    let holds = keys.hold(&credential, &claim, &canonical);
    Ok(holds.then_some(Usual { credential, query }))
}

/// What a request says of its signature.
struct Claim<'r> {
    access_key: &'r str,
    region: &'r str,
    /// `20260101T000000Z`.
    moment: &'r str,
    /// `20260101`.
    day: &'r str,
    /// When that was.
    date: AmzDate,
    /// In seconds since the epoch.
    signed: i64,
    /// For how many seconds it holds; `None` when it is in the headers.
    expires: Option<i64>,
    signed_headers: &'r str,
    signature: &'r str,
    /// The last line of the canonical request.
    payload: &'r str,
}

impl<'r> Claim<'r> {
    /// Of a request in the usual form, and its canonical request.
    fn of<B: http_body::Body>(request: &'r Request<B>, settings: &Settings, query: &'r Query) -> Option<(Self, String)> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        if ![Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(method) {
            return None;
        }
        let claim = Self::read(headers, query)?;
        let is_for_us = !settings.check_region || claim.region == settings.region;
        if !is_for_us || !claim.is_current(SystemTime::now()) || !claim.leaves_body(headers, request.body().is_end_stream()) {
            return None;
        }
        let canonical = claim.canonical(method, uri, headers)?;
        Some((claim, canonical))
    }

    fn read(headers: &'r HeaderMap, query: &'r Query) -> Option<Self> {
        // A name of Version 2, or of the other place: which of them counts is not decided here.
        if query.has("Signature") {
            return None;
        }
        let is_presigned = query.has("X-Amz-Signature");
        let (credential, moment, signed_headers, signature, expires) = if is_presigned {
            if headers.contains_key(AUTHORIZATION) || query.get("X-Amz-Algorithm")? != ALGORITHM {
                return None;
            }
            let expires = query.get("X-Amz-Expires")?;
            let expires = digits(expires.as_bytes()).then(|| expires.parse().ok())??;
            let credential = CredentialV4::parse(query.get("X-Amz-Credential")?).ok()?;
            let (moment, headers) = (query.get("X-Amz-Date")?, query.get("X-Amz-SignedHeaders")?);
            (credential, moment, headers, query.get("X-Amz-Signature")?, Some(expires))
        } else {
            // The marks of a query are in it as they are, or encoded, which is not usual.
            if query.has("X-Amz-Algorithm") {
                return None;
            }
            let text = only(headers, AUTHORIZATION.as_str())?;
            let header = AuthorizationV4::parse(text).ok().filter(|header| header.algorithm == ALGORITHM)?;
            let names = text.split_once("SignedHeaders=")?.1.split_once(',')?.0;
            (header.credential, only(headers, "x-amz-date")?, names, header.signature, None)
        };
        let day = moment.get(..8)?;
        let date = AmzDate::parse(moment).ok()?;
        let signed = date.to_time()?.as_second();
        let region = credential.aws_region;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if credential.aws_service != "s3" || credential.date != day || region.is_empty() || region.len() > 63 || !plain(region) {
            return None;
        }
        let declared = if headers.contains_key(PAYLOAD) { Some(only(headers, PAYLOAD)?) } else { None };
        let payload = match declared {
            _ if is_presigned && matches!(declared, None | Some(UNSIGNED | EMPTY_STRING_SHA256_HASH)) => UNSIGNED,
            Some(payload @ (UNSIGNED | EMPTY_STRING_SHA256_HASH)) => payload,
            _ => return None,
        };
        let access_key = credential.access_key_id;
        Some(Self { access_key, region, moment, day, date, signed, expires, signed_headers, signature, payload })
    }

    /// Whether it holds at this time. In its last second it does not: what is left of it, the framework measures.
    fn is_current(&self, now: SystemTime) -> bool {
        let Some(now) = now.duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok()) else {
            return false;
        };
        let age = now.saturating_sub(self.signed);
        let most = self.expires.unwrap_or(MAX_SKEW);
        age >= -MAX_SKEW && age < most && most <= i64::from(MAX_EXPIRES)
    }

    /// Whether nothing has to be verified of the body, and its length is as it has to be told.
    fn leaves_body(&self, headers: &HeaderMap, is_empty: bool) -> bool {
        let length = match headers.contains_key(CONTENT_LENGTH) {
            // HTTP/2 lets one through that is empty.
            true => match only(headers, CONTENT_LENGTH.as_str()) {
                Some(length) if digits(length.as_bytes()) && length.parse::<u64>().is_ok() => true,
                _ => return false,
            },
            false => false,
        };
        let is_digest = first(headers, PAYLOAD).is_some_and(|payload| payload.as_bytes() != UNSIGNED.as_bytes());
        !headers.contains_key("x-amz-decoded-content-length")
            && (is_empty || !is_digest)
            && (is_empty || length || self.expires.is_some())
    }

    /// The canonical request, if that is what was sent.
    fn canonical(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let path = uri.path();
        if !is_canonical(path.as_bytes(), true) || !is_text(path) || only(headers, HOST.as_str()).is_none() {
            return None;
        }
        let mut text = String::with_capacity(512);
        for part in [method.as_str(), "\n", path, "\n"] {
            text.push_str(part);
        }
        self.push_query(&mut text, uri.query().unwrap_or_default())?;
        text.push('\n');
        self.push_headers(&mut text, headers)?;
        for part in ["\n", self.signed_headers, "\n", self.payload] {
            text.push_str(part);
        }
        Some(text)
    }

    fn push_query(&self, text: &mut String, query: &str) -> Option<()> {
        if query.is_empty() {
            return Some(());
        }
        let mut pairs = Vec::with_capacity(8);
        for (name, value) in encoded(query) {
            if name.is_empty() || !is_canonical(name.as_bytes(), false) || !is_canonical(value.as_bytes(), false) {
                return None;
            }
            pairs.push((name, value));
        }
        if !pairs.is_sorted() {
            pairs.sort_unstable();
        }
        let repeats = pairs.windows(2).any(|two| matches!(two, [(one, _), (other, _)] if one == other));
        if repeats {
            return None;
        }
        let mut separator = "";
        for (name, value) in pairs {
            if self.expires.is_some() && name == "X-Amz-Signature" {
                continue;
            }
            for part in [separator, name, "=", value] {
                text.push_str(part);
            }
            separator = "&";
        }
        Some(())
    }

    fn push_headers(&self, text: &mut String, headers: &HeaderMap) -> Option<()> {
        let mut before = "";
        for name in self.signed_headers.split(';') {
            let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
            // In their order, so none is there twice.
            if !is_name || name <= before || name == AUTHORIZATION.as_str() {
                return None;
            }
            let value = only(headers, name).filter(|value| is_trimmed(value.as_bytes()))?;
            for part in [name, ":", value, "\n"] {
                text.push_str(part);
            }
            before = name;
        }
        // What is not signed must not change what the request does.
        let is_signed = |name: &str| name == PAYLOAD || self.signed_headers.split(';').any(|signed| signed == name);
        headers.keys().all(|name| !name.as_str().starts_with("x-amz-") || is_signed(name.as_str())).then_some(())
    }

    fn holds(&self, canonical: &str, key: &[u8; 32]) -> bool {
        let mut digest = [0; 64];
        let hashed = hex::encode_to_slice(Hasher::once(Algorithm::Sha256, canonical.as_bytes()), &mut digest);
        let (Ok(()), Ok(digest)) = (hashed, std::str::from_utf8(&digest)) else { return false };
        let mut text = String::with_capacity(192);
        for part in [ALGORITHM, "\n", self.moment, "\n", self.day, "/", self.region, "/s3/aws4_request\n", digest] {
            text.push_str(part);
        }
        let mut signature = [0; 64];
        hex::encode_to_slice(s3s_sigv4::calculate_signature_with_key(&text, key), &mut signature).is_ok()
            && signature.ct_eq(self.signature.as_bytes()).into()
    }
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Whether what is encoded in it is text.
fn is_text(encoded: &str) -> bool {
    !encoded.contains('%') || percent_decode_str(encoded).decode_utf8().is_ok()
}

/// Whether nothing is to be taken off a header's value: no space at an end, and none beside another.
fn is_trimmed(value: &[u8]) -> bool {
    let mut before = b' ';
    for &byte in value {
        if byte == b'\t' || (byte == b' ' && before == b' ') {
            return false;
        }
        before = byte;
    }
    value.is_empty() || before != b' '
}

/// The bytes that stand for themselves in a query (RFC 3986 section 2.3), and in a path.
const UNRESERVED: [[bool; 256]; 2] = {
    let mut tables = [[false; 256]; 2];
    let mut byte = 0_u8;
    while byte < 128 {
        let itself = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        tables[0][byte as usize] = itself;
        tables[1][byte as usize] = itself || byte == b'/';
        byte += 1;
    }
    tables
};

/// Whether a part of a URI is encoded as the specification says: what has to be is, in capitals, and nothing else.
fn is_canonical(text: &[u8], is_path: bool) -> bool {
    let stands_for_itself = &UNRESERVED[usize::from(is_path)];
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !stands_for_itself[usize::from(*byte)]) {
        let Some([b'%', high, low, after @ ..]) = rest.get(at..) else { return false };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        if stands_for_itself[usize::from(high << 4 | low)] {
            return false;
        }
        rest = after;
    }
    true
}

/// The keys that sign on a day, each until another takes its place: to derive one takes four times as long as to sign with it.
pub(in crate::s3) struct Keys(Box<[Mutex<Option<Kept>>]>);

struct Kept {
    /// Whose it is. The address of what this points to is nobody else's as long as it is here.
    credential: Weak<Credential>,
    /// `20260101us-east-1`.
    scope: Box<str>,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self(std::iter::repeat_with(|| Mutex::new(None)).take(KEYS).collect())
    }
}

impl Keys {
    /// Whether the signature of a request holds.
    fn hold(&self, credential: &Arc<Credential>, claim: &Claim<'_>, canonical: &str) -> bool {
        // Two that share a place derive their keys more often: no reason for more than a sum.
        let sum = credential.access_key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let Some(place) = self.0.get(sum % KEYS) else { return false };
        let is_it = |kept: &&Kept| {
            std::ptr::eq(kept.credential.as_ptr(), Arc::as_ptr(credential))
                && kept.scope.strip_prefix(claim.day).is_some_and(|region| region == claim.region)
        };
        let kept = place.lock().as_ref().filter(is_it).map(|kept| kept.key.clone());
        if let Some(key) = kept {
            return claim.holds(canonical, &key);
        }
        let key = Zeroizing::new(s3s_sigv4::derive_signing_key(credential.secret.expose(), &claim.date, claim.region, "s3"));
        let holds = claim.holds(canonical, &key);
        // Nobody takes another's place with a signature that does not hold.
        if holds {
            let scope = format!("{}{}", claim.day, claim.region).into_boxed_str();
            *place.lock() = Some(Kept { credential: Arc::downgrade(credential), scope, key });
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use http_body_util::Full;
    use s3s_sigv4::Payload;

    use super::*;
    use crate::meta::{MetaStore, SqliteStore};
    use crate::tokens::Secret;

    const KEY: (&str, &str) = ("SOMEKEY", "some-secret-key");

    async fn tokens_with(secret: &str) -> Tokens {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let tokens = Tokens::open(store, [7; 32]).await.unwrap();
        tokens.create_key("somebody", false, Some(KEY.0.to_owned()), Some(Secret::new(secret.to_owned()))).await.unwrap();
        tokens
    }

    async fn tokens() -> Tokens {
        tokens_with(KEY.1).await
    }

    fn moment(ago: i64) -> AmzDate {
        let text = crate::s3::dates::iso(SystemTime::now() - std::time::Duration::from_secs(ago.unsigned_abs()));
        let basic: String = text.split('.').next().unwrap().chars().filter(|c| !['-', ':'].contains(c)).collect();
        AmzDate::parse(&format!("{basic}Z")).unwrap()
    }

    /// A request with a signature in its headers.
    fn signed(
        method: &str,
        target: &str,
        payload: &str,
        headers: &[(&str, &str)],
        body: &'static [u8],
    ) -> Request<Full<&'static [u8]>> {
        let date = moment(5);
        let text = date.fmt_iso8601();
        let mut all = vec![("host", "h"), ("x-amz-content-sha256", payload), ("x-amz-date", text.as_str())];
        all.extend(headers);
        all.sort_unstable();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode_str(path).decode_utf8().unwrap();
        let query = Query::parse(Some(query)).unwrap().sorted();
        let said = if payload == UNSIGNED { Payload::Unsigned } else { Payload::SingleChunk(payload) };
        let canonical = s3s_sigv4::create_canonical_request(method, &path, &query, &all, said);
        let text = s3s_sigv4::create_string_to_sign(&canonical, &date, "us-east-1", "s3");
        let signature = s3s_sigv4::calculate_signature(&text, KEY.1, &date, "us-east-1", "s3");
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let (day, names) = (date.fmt_date(), names.join(";"));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{day}/us-east-1/s3/aws4_request, SignedHeaders={names}, Signature={signature}",
            KEY.0
        );
        let request = Request::builder().method(method).uri(target).header("authorization", authorization);
        let request = all.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = if body.is_empty() { request } else { request.header("content-length", body.len()) };
        request.body(Full::new(body)).unwrap()
    }

    #[tokio::test]
    async fn what_clients_send_is_usual() {
        let (tokens, settings, keys) = (tokens().await, Settings::default(), Keys::default());
        let taken =
            async |request: Request<Full<&'static [u8]>>| usual(&request, &tokens, &settings, &keys).await.unwrap().is_some();
        for (method, target) in [
            ("GET", "/bucket/key"),
            ("HEAD", "/bucket/a%20b/%C3%A9"),
            ("DELETE", "/bucket/~-_."),
            ("GET", "/"),
            ("GET", "/bucket?list-type=2&prefix=a%2Fb&uploads"),
            ("PUT", "/bucket?acl"),
        ] {
            assert!(taken(signed(method, target, EMPTY_STRING_SHA256_HASH, &[], b"")).await, "{method} {target}");
            assert!(taken(signed(method, target, UNSIGNED, &[("x-amz-meta-a", "b c")], b"")).await, "{method} {target}");
        }
        assert!(taken(signed("PUT", "/bucket/key", UNSIGNED, &[("content-type", "a/b; c=d")], b"body")).await);
        // What has to be looked at more closely.
        assert!(!taken(signed("PUT", "/bucket/key", &hex::encode(Hasher::once(Algorithm::Sha256, b"body")), &[], b"body")).await);
        assert!(!taken(signed("PUT", "/bucket/key", EMPTY_STRING_SHA256_HASH, &[], b"body")).await);
        assert!(!taken(signed("POST", "/bucket?delete", UNSIGNED, &[], b"body")).await);
        assert!(!taken(signed("GET", "/bucket/a:b", UNSIGNED, &[], b"")).await);
        assert!(!taken(signed("GET", "/bucket/key", UNSIGNED, &[("x-amz-meta-a", "b  c")], b"")).await);
        assert!(!taken(signed("GET", "/bucket?a=1&a=2", UNSIGNED, &[], b"")).await);
        let mut other = signed("GET", "/bucket/key", UNSIGNED, &[], b"");
        other.headers_mut().insert("x-amz-meta-a", http::HeaderValue::from_static("b"));
        assert!(!taken(other).await);
    }

    #[test]
    fn canonical_is_what_encoding_would_make() {
        let encoded = |text: &[u8], is_path| {
            text.iter()
                .map(|b| {
                    if UNRESERVED[usize::from(is_path)][usize::from(*b)] {
                        char::from(*b).to_string()
                    } else {
                        format!("%{b:02X}")
                    }
                })
                .collect::<String>()
        };
        let all: Vec<u8> = (0..=255).collect();
        for is_path in [true, false] {
            assert!(is_canonical(encoded(&all, is_path).as_bytes(), is_path));
            for byte in &all {
                let one = [*byte];
                assert_eq!(is_canonical(&one, is_path), encoded(&one, is_path).as_bytes() == one, "{byte}");
                let lower = format!("%{byte:02x}");
                assert_eq!(is_canonical(lower.as_bytes(), is_path), encoded(&one, is_path) == lower, "{lower}");
            }
        }
        for cut in ["%", "%4", "a%", "%2", "%zz", "%C3%"] {
            assert!(!is_canonical(cut.as_bytes(), true) && !is_canonical(cut.as_bytes(), false), "{cut}");
        }
    }

    #[tokio::test]
    async fn lengths_that_are_none_are_not_usual() {
        let (tokens, settings, keys) = (tokens().await, Settings::default(), Keys::default());
        for (length, is_usual) in [("0", true), ("", false), ("+0", false), ("18446744073709551616", false), ("0, 0", false)] {
            let mut request = signed("GET", "/bucket/key", EMPTY_STRING_SHA256_HASH, &[], b"");
            request.headers_mut().insert(CONTENT_LENGTH, http::HeaderValue::from_static(length));
            assert_eq!(usual(&request, &tokens, &settings, &keys).await.unwrap().is_some(), is_usual, "{length:?}");
        }
    }

    #[tokio::test]
    async fn a_signing_key_is_kept_and_is_nobody_elses() {
        let (settings, keys) = (Settings::default(), Keys::default());
        let kept = || keys.0.iter().filter(|place| place.lock().is_some()).count();
        let (ours, others) = (tokens().await, tokens_with("other-secret").await);
        let request = || signed("GET", "/bucket/key", UNSIGNED, &[], b"");
        // The same name with another secret, which has the same place; before and after, by turns.
        assert!(usual(&request(), &others, &settings, &keys).await.unwrap().is_none());
        assert_eq!(kept(), 0, "what does not hold takes no place");
        for _ in 0..2 {
            assert!(usual(&request(), &ours, &settings, &keys).await.unwrap().is_some());
            assert!(usual(&request(), &others, &settings, &keys).await.unwrap().is_none());
            assert_eq!(kept(), 1);
        }
        // Neither does a key of one day or region sign for another.
        let credential = ours.credential(KEY.0).await.unwrap().unwrap();
        let query = Query::default();
        let request = request();
        let (claim, canonical) = Claim::of(&request, &settings, &query).unwrap();
        assert!(keys.hold(&credential, &claim, &canonical));
        assert!(!keys.hold(&credential, &Claim { region: "us-east-2", ..claim }, &canonical));
    }
}
