//! Signature Version 4A: ECDSA on P-256, with a key pair that both sides derive from the secret
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>; the derivation is NIST SP 800-108 in counter mode).
//!
//! The framework does not know it. So a request is verified here, and then given the signature of Version 4 that its sender would have
//! made, which the framework verifies as any other, with all that it looks at besides.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Uri};
use http_body_util::Either;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use s3s_sigv4::AmzDate;
use zeroize::Zeroizing;

use super::signed::{Head, Path, View};
use super::v4a_chunks::{self, Chain, Chunks};
use crate::s3::Settings;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::query::Query;
use crate::tokens::Tokens;
use crate::transfer::{Algorithm, Hasher};

/// The algorithm as requests name it.
const ALGORITHM: &str = "AWS4-ECDSA-P256-SHA256";
/// The order of the curve less two, in big-endian: what a derived number may be at most.
const ORDER_LESS_2: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];
/// What says how the body is signed.
const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Whether a request carries such a signature.
pub(in crate::s3) fn is_used(uri: &Uri, headers: &http::HeaderMap) -> bool {
    headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(ALGORITHM.as_bytes()))
        || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256"))
}

/// What a request says of its signature.
struct Given {
    access_key: String,
    date: AmzDate,
    service: String,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    regions: String,
    presigned: bool,
}

/// Verifies a request, and gives it a signature of Version 4. The chunks of a body that are signed one by one are verified as they come; one
/// may have `max_chunk` bytes.
///
/// # Errors
/// `AuthorizationHeaderMalformed`, `SignatureDoesNotMatch`, `InvalidAccessKeyId`.
pub(in crate::s3) async fn translated<B>(
    request: Request<B>,
    tokens: &Tokens,
    settings: &Settings,
    max_chunk: usize,
) -> Result<Request<Either<B, Chunks>>>
where
    B: http_body::Body<Data = Bytes> + Send + Sync + Unpin + 'static,
    B::Error: Into<s3s::StdError>,
{
    let head = Head { method: request.method().clone(), uri: request.uri().clone(), headers: request.headers().clone() };
    let given = read(&head)?;
    if !covers(&given.regions, &settings.region) {
        let message = format!("The region set of the signature does not hold the region '{}'", settings.region);
        return Err(Failure::because(Code::AuthorizationHeaderMalformed, message).field("Region", settings.region.clone()));
    }
    let credential = tokens.credential(&given.access_key).await?.ok_or(Code::InvalidAccessKeyId)?;
    let secret = credential.secret.expose();
    let query = Query::parse(head.uri.query())?;
    let signed = View {
        method: head.method.as_str().to_owned(),
        path: Path::Decoded(
            percent_encoding::percent_decode_str(head.uri.path()).decode_utf8().map_err(|_| Code::InvalidURI)?.into_owned(),
        ),
        query: query.sorted(),
        headers: head.signed(&given.signed_headers).ok_or(Code::SignatureDoesNotMatch)?,
        payload: if given.presigned { "UNSIGNED-PAYLOAD" } else { head.header("x-amz-content-sha256").unwrap_or_default() }
            .to_owned(),
        presigned: given.presigned,
    };
    let digest = hex::encode(Hasher::once(Algorithm::Sha256, signed.canonical().as_bytes()));
    let (moment, day) = (given.date.fmt_iso8601(), given.date.fmt_date());
    let text = format!("{ALGORITHM}\n{moment}\n{day}/{}/aws4_request\n{digest}", given.service);
    let key = public_key(&given.access_key, secret).ok_or(Code::SignatureDoesNotMatch)?;
    let signature = DerSignature::try_from(given.signature.as_slice()).map_err(|_| Code::SignatureDoesNotMatch)?;
    if key.verify(text.as_bytes(), &signature).is_err() {
        return Err(Failure::new(Code::SignatureDoesNotMatch)
            .field("AWSAccessKeyId", given.access_key)
            .field("StringToSign", text)
            .field("CanonicalRequest", signed.canonical()));
    }
    let Some(mode) = v4a_chunks::mode_of_version_4(&signed.payload) else {
        let (request, _) = resigned(request, &given, signed, secret, &settings.region)?;
        return Ok(request.map(Either::Left));
    };
    let has_trailer = mode.ends_with("-TRAILER");
    let (mut request, signature) = resigned(request, &given, signed.with_payload(mode), secret, &settings.region)?;
    request.headers_mut().insert(PAYLOAD, HeaderValue::from_static(mode));
    let signing_key = s3s_sigv4::derive_signing_key(secret, &given.date, &settings.region, &given.service);
    let chain = Chain {
        key,
        region: settings.region.clone(),
        signing_key: Zeroizing::new(signing_key),
        before: hex::encode(&given.signature),
        before_version_4: signature,
        date: given.date,
        service: given.service,
    };
    Ok(request.map(|body| Either::Right(v4a_chunks::translated(body, chain, has_trailer, max_chunk))))
}

fn read(head: &Head) -> Result<Given> {
    let query = Query::parse(head.uri.query())?;
    let malformed = |presigned: bool| {
        Failure::new(if presigned { Code::AuthorizationQueryParametersError } else { Code::AuthorizationHeaderMalformed })
    };
    let presigned = query.has("X-Amz-Signature");
    let (credential, headers, signature, date, regions) = if presigned {
        let field = |name| query.get(name).ok_or_else(|| malformed(true));
        let regions = field("X-Amz-Region-Set")?;
        (field("X-Amz-Credential")?, field("X-Amz-SignedHeaders")?, field("X-Amz-Signature")?, field("X-Amz-Date")?, regions)
    } else {
        let text =
            head.header(AUTHORIZATION.as_str()).and_then(|text| text.strip_prefix(ALGORITHM)).ok_or_else(|| malformed(false))?;
        let field = |name: &str| {
            let mut fields = text.split(',').map(str::trim).filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            fields.next().ok_or_else(|| malformed(false))
        };
        let header = |name| head.header(name).ok_or_else(|| malformed(false));
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?, header("x-amz-date")?, header("x-amz-region-set")?)
    };
    let wrong = || malformed(presigned);
    let mut scope = credential.rsplitn(4, '/');
    let (Some("aws4_request"), Some(service), Some(day), Some(access_key)) =
        (scope.next(), scope.next(), scope.next(), scope.next())
    else {
        return Err(wrong());
    };
    let date = AmzDate::parse(date).map_err(|_| wrong())?;
    let signed_headers: Vec<String> = headers.split(';').map(str::to_ascii_lowercase).collect();
    // The regions are part of what is signed, or they are anybody's.
    let regions_signed = presigned || signed_headers.iter().any(|name| name == "x-amz-region-set");
    if date.fmt_date().as_str() != day || !["s3", "iam", "sts"].contains(&service) || !regions_signed {
        return Err(wrong());
    }
    Ok(Given {
        access_key: access_key.to_owned(),
        service: service.to_owned(),
        signature: hex::decode(signature).map_err(|_| wrong())?,
        regions: regions.to_owned(),
        date,
        signed_headers,
        presigned,
    })
}

/// Whether a set of regions (`us-east-1,eu-*`, `*`) holds one.
fn covers(set: &str, region: &str) -> bool {
    set.split(',').map(str::trim).any(|one| match one.strip_suffix('*') {
        Some(head) => region.starts_with(head),
        None => one == region,
    })
}

/// The public half of the key pair of an access key.
pub(super) fn public_key(access_key: &str, secret: &str) -> Option<VerifyingKey> {
    let mac = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4A{secret}").as_bytes());
    for counter in 1..=254u8 {
        let mut context = hmac::Context::with_key(&mac);
        for part in
            [&1u32.to_be_bytes()[..], ALGORITHM.as_bytes(), &[0], access_key.as_bytes(), &[counter], &256u32.to_be_bytes()]
        {
            context.update(part);
        }
        let mut number = [0; 32];
        number.copy_from_slice(context.sign().as_ref());
        if number > ORDER_LESS_2 {
            continue;
        }
        // One more: from 1 to the order less one.
        for byte in number.iter_mut().rev() {
            let (sum, carried) = byte.overflowing_add(1);
            *byte = sum;
            if !carried {
                break;
            }
        }
        return SigningKey::from_slice(&number).ok().map(|key| *key.verifying_key());
    }
    None
}

/// The request with the signature of Version 4 of the same sender, and that signature.
fn resigned<B>(request: Request<B>, given: &Given, mut view: View, secret: &str, region: &str) -> Result<(Request<B>, String)> {
    let (mut head, body) = request.into_parts();
    let credential = format!("{}/{}/{region}/{}/aws4_request", given.access_key, given.date.fmt_date(), given.service);
    if given.presigned {
        for (name, value) in &mut view.query {
            match name.as_str() {
                "X-Amz-Algorithm" => "AWS4-HMAC-SHA256".clone_into(value),
                "X-Amz-Credential" => credential.clone_into(value),
                _ => {}
            }
        }
    }
    let text = s3s_sigv4::create_string_to_sign(&view.canonical(), &given.date, region, &given.service);
    let signature = s3s_sigv4::calculate_signature(&text, secret, &given.date, region, &given.service);
    if given.presigned {
        let pairs = view.query.iter().map(|(name, value)| {
            let value = if name == "X-Amz-Signature" { &signature } else { value };
            format!("{}={}", utf8_percent_encode(name, QUERY), utf8_percent_encode(value, QUERY))
        });
        let target = format!("{}?{}", head.uri.path(), pairs.collect::<Vec<_>>().join("&"));
        let mut parts = head.uri.into_parts();
        parts.path_and_query = Some(target.parse().map_err(|_| Code::InvalidURI)?);
        head.uri = Uri::from_parts(parts).map_err(|_| Code::InvalidURI)?;
    } else {
        let headers = given.signed_headers.join(";");
        let value = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={headers}, Signature={signature}");
        head.headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).map_err(|_| Code::AuthorizationHeaderMalformed)?);
    }
    Ok((Request::from_parts(head, body), signature))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn keys_are_derived_as_others_derive_them() {
        // The vector of aws-c-auth, tests/key_derivation_tests.c.
        let key = public_key("AKISORANDOMAASORANDOM", "q+jcrXGc+0zWN6uzclKVhvMmUsIfRPa4rlRandom").unwrap();
        let point = key.to_sec1_point(false);
        let hexadecimal = |part: Option<&[u8]>| hex::encode(part.unwrap());
        let (x, y) = (point.x().map(|x| x.to_vec()), point.y().map(|y| y.to_vec()));
        assert_eq!(hexadecimal(x.as_deref()), "15d242ceebf8d8169fd6a8b5a746c41140414c3b07579038da06af89190fffcb");
        assert_eq!(hexadecimal(y.as_deref()), "0515242cedd82e94799482e4c0514b505afccf2c0c98d6a553bf539f424c5ec0");
    }

    #[test]
    fn a_set_of_regions_holds_what_it_names() {
        assert!(covers("us-east-1", "us-east-1") && covers("eu-west-1, us-*", "us-east-1") && covers("*", "x"));
        assert!(!covers("", "us-east-1") && !covers("us-east-2", "us-east-1"));
    }
}
