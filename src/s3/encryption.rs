//! The headers of server-side encryption: what a request wishes, which keys it brings, and what an answer shows.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-kms-encryption.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_provider::Attributes;
use zeroize::Zeroizing;

use super::bucket_encryption;
use super::error::{Code, Failure, Result};
use super::headers::{first, text};
use crate::encryption::{CustomerKey, Encryption, Method, Wish, shown};
use crate::namespaces::Namespace;

const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const KMS_CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// The names of the headers that bring a customer's key.
struct CustomerHeaders {
    algorithm: &'static str,
    key: &'static str,
    md5: &'static str,
}

const CUSTOMER: CustomerHeaders = CustomerHeaders {
    algorithm: "x-amz-server-side-encryption-customer-algorithm",
    key: "x-amz-server-side-encryption-customer-key",
    md5: "x-amz-server-side-encryption-customer-key-md5",
};

/// Those of the source of a copy.
const SOURCE: CustomerHeaders = CustomerHeaders {
    algorithm: "x-amz-copy-source-server-side-encryption-customer-algorithm",
    key: "x-amz-copy-source-server-side-encryption-customer-key",
    md5: "x-amz-copy-source-server-side-encryption-customer-key-md5",
};

/// The most of an encryption context, in bytes of JSON (that of KMS:
/// <https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html>).
const MAX_CONTEXT_BYTES: usize = 8192;

/// Checks the headers of a write against each other.
///
/// # Errors
/// `InvalidArgument`, `InvalidEncryptionAlgorithmError`, `NotImplemented`.
pub(crate) fn check(headers: &HeaderMap) -> Result<()> {
    asked(headers).map(drop)
}

/// How an object that this request writes is to be encrypted: as it says, or as the bucket has it.
///
/// # Errors
/// As [`check`].
pub(crate) fn wish(headers: &HeaderMap, namespace: &Namespace) -> Result<Option<Wish>> {
    Ok(asked(headers)?.or_else(|| bucket_encryption::default_wish(namespace)))
}

/// What the headers of a write ask for.
fn asked(headers: &HeaderMap) -> Result<Option<Wish>> {
    let method = text(headers, METHOD)?;
    let kms = method == Some("aws:kms");
    match method {
        None | Some("AES256" | "aws:kms") => {}
        Some("aws:kms:dsse") => {
            let message = "Dual-layer server-side encryption is not implemented.";
            return Err(Failure::not_implemented(message).field("Header", METHOD));
        }
        Some(method) => return Err(Failure::argument(METHOD, method, "The encryption method specified is not supported")),
    }
    if let Some(key) = key(headers, &CUSTOMER, method)? {
        return Ok(Some(Wish::Customer(key)));
    }
    for name in [KMS_KEY, KMS_CONTEXT] {
        if !kms && first(headers, name).is_some() {
            return Err(Failure::argument(
                METHOD,
                method.unwrap_or_default(),
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
            ));
        }
    }
    Ok(match method {
        None => None,
        Some("AES256") => Some(Wish::Gateway),
        Some(_) => {
            let key = text(headers, KMS_KEY)?.map(str::to_owned);
            let bucket_key = match text(headers, BUCKET_KEY)? {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => return Err(Failure::argument(BUCKET_KEY, other, "The value must be true or false.")),
            };
            Some(Wish::Kms { key, context: context(headers)?, bucket_key })
        }
    })
}

/// The encryption context of a request.
fn context(headers: &HeaderMap) -> Result<BTreeMap<String, String>> {
    let Some(value) = text(headers, KMS_CONTEXT)? else { return Ok(BTreeMap::new()) };
    let read = || {
        let json = BASE64.decode(value.trim()).ok().filter(|json| json.len() <= MAX_CONTEXT_BYTES)?;
        serde_json::from_slice(&json).ok()
    };
    read().ok_or_else(|| {
        let message = "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which \
                       represents a string-string map";
        Failure::argument(KMS_CONTEXT, value, message)
    })
}

/// Refuses a customer's key that came in the clear, where the gateway is configured to.
///
/// # Errors
/// `InvalidRequest`.
pub(crate) fn check_channel(headers: &HeaderMap, secure: bool, encryption: &Encryption) -> Result<()> {
    if secure
        || !encryption.customer_keys_need_tls()
        || ![CUSTOMER.key, SOURCE.key].iter().any(|key| first(headers, key).is_some())
    {
        return Ok(());
    }
    let message = "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.";
    Err(Failure::request(message))
}

/// The customer's key of a request.
///
/// # Errors
/// As [`check`].
pub(crate) fn customer_key(headers: &HeaderMap) -> Result<Option<CustomerKey>> {
    key(headers, &CUSTOMER, None)
}

/// The customer's key of the source of a copy.
///
/// # Errors
/// As [`check`].
pub(crate) fn source_key(headers: &HeaderMap) -> Result<Option<CustomerKey>> {
    key(headers, &SOURCE, None)
}

/// Refuses on a read what only a write may ask for.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn refuse_on_read(headers: &HeaderMap) -> Result<()> {
    for name in [METHOD, KMS_KEY, KMS_CONTEXT] {
        if let Some(value) = text(headers, name)? {
            return Err(Failure::argument(name, value, format!("{name} header is not supported for this operation.")));
        }
    }
    Ok(())
}

/// A customer's key, if anything about one comes with the request.
fn key(headers: &HeaderMap, names: &CustomerHeaders, method: Option<&str>) -> Result<Option<CustomerKey>> {
    let CustomerHeaders { algorithm: algorithm_name, key: key_name, md5: md5_name } = *names;
    if ![algorithm_name, key_name, md5_name].iter().any(|name| first(headers, name).is_some()) {
        return Ok(None);
    }
    if let Some(method) = method {
        return Err(Failure::argument(
            METHOD,
            method,
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        ));
    }
    let asked = |name: &'static str, message: &'static str| {
        text(headers, name)?.ok_or_else(|| {
            let start = "Requests specifying Server Side Encryption with Customer provided keys must provide";
            Failure::argument(name, "null", format!("{start} {message}"))
        })
    };
    let algorithm = asked(algorithm_name, "a valid encryption algorithm.")?;
    if algorithm != "AES256" {
        return Err(Failure::because(
            Code::InvalidEncryptionAlgorithmError,
            "The Encryption request you specified is not valid. Supported value: AES256.",
        )
        .field("ArgumentName", algorithm_name)
        .field("ArgumentValue", algorithm));
    }
    let key = asked(key_name, "an appropriate secret key.")?;
    let md5 = asked(md5_name, "the client calculated MD5 of the secret key.")?.trim();
    // The key is a secret: it is not repeated in the answer.
    let key = BASE64
        .decode(key.trim())
        .ok()
        .map(Zeroizing::new)
        .filter(|k| k.len() == 32)
        .ok_or_else(|| Failure::argument(key_name, "", "The secret key was invalid for the specified algorithm."))?;
    let same = BASE64.decode(md5).is_ok_and(|m| hex::encode(m) == crate::transfer::md5_hex(&key));
    match CustomerKey::new(&key, md5).filter(|_| same) {
        Some(key) => Ok(Some(key)),
        None => {
            let message = "The calculated MD5 hash of the key did not match the hash that was provided.";
            Err(Failure::argument(md5_name, md5, message))
        }
    }
}

/// The customer's key, if that is the wish.
pub(crate) fn customer_of(wish: Option<&Wish>) -> Option<&CustomerKey> {
    match wish {
        Some(Wish::Customer(key)) => Some(key),
        _ => None,
    }
}

/// Whether a request says anything about how an object is to be encrypted.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    [METHOD, CUSTOMER.algorithm].iter().any(|name| first(headers, name).is_some())
}

/// Shows how an object (or an upload) with these attributes is encrypted.
///
/// # Errors
/// `InternalError` for attributes that make no sense.
pub(crate) fn to_headers(attributes: &Attributes, customer: Option<&CustomerKey>, headers: &mut HeaderMap) -> Result<()> {
    let Some(shown) = shown(attributes)? else { return Ok(()) };
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    match shown.method {
        Method::Gateway => set(METHOD, "AES256"),
        Method::Kms => {
            set(METHOD, "aws:kms");
            set(KMS_KEY, &shown.key);
            if shown.bucket_key {
                set(BUCKET_KEY, "true");
            }
        }
        Method::Customer => {
            set(CUSTOMER.algorithm, "AES256");
            if let Some(customer) = customer {
                set(CUSTOMER.md5, customer.md5());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const CUSTOMER_ALGORITHM: &str = CUSTOMER.algorithm;
    const CUSTOMER_KEY: &str = CUSTOMER.key;
    const CUSTOMER_KEY_MD5: &str = CUSTOMER.md5;
    const KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
    const MD5: &str = "DWygnHRtgiJ77HCm+1rvHw==";

    fn checked(pairs: &[(&'static str, &'static str)]) -> Result<(), Code> {
        let headers = pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        check(&headers).map_err(|f| f.code())
    }

    #[test]
    fn a_request_that_contradicts_itself_is_wrong() {
        let wrong = Err(Code::InvalidArgument);
        let customer = [(CUSTOMER_ALGORITHM, "AES256"), (CUSTOMER_KEY, KEY), (CUSTOMER_KEY_MD5, MD5)];
        assert_eq!(checked(&customer), Ok(()));
        let with = |more: (&'static str, &'static str)| checked(&[&customer[..], &[more]].concat());
        assert_eq!(with((METHOD, "AES256")), wrong);
        assert_eq!(with((METHOD, "aws:kms")), wrong);
        assert_eq!(checked(&customer[1..]), wrong, "no algorithm");
        assert_eq!(checked(&customer[..1]), wrong, "no key");
        assert_eq!(checked(&customer[..2]), wrong, "no MD5");
        assert_eq!(checked(&[customer[0], customer[1], (CUSTOMER_KEY_MD5, "AAAAAAAAAAAAAAAAAAAAAA==")]), wrong);
        assert_eq!(checked(&[customer[0], (CUSTOMER_KEY, "c2hvcnQ="), customer[2]]), wrong);
        assert_eq!(checked(&[(CUSTOMER_ALGORITHM, "DES"), customer[1], customer[2]]), Err(Code::InvalidEncryptionAlgorithmError));
        assert_eq!(checked(&[(METHOD, "aes:kms")]), wrong);
        assert_eq!(checked(&[(METHOD, "AES256"), (KMS_KEY, "k")]), wrong);
        assert_eq!(checked(&[(KMS_KEY, "k")]), wrong);
        assert_eq!(checked(&[(METHOD, "aws:kms"), (KMS_KEY, "k")]), Ok(()));
        assert_eq!(checked(&[(METHOD, "AES256")]), Ok(()));
        assert_eq!(checked(&[(METHOD, "aws:kms:dsse")]), Err(Code::NotImplemented));
        assert_eq!(checked(&[(METHOD, "aws:kms"), (BUCKET_KEY, "yes")]), wrong);
    }

    #[test]
    fn a_key_in_the_clear_is_refused_where_it_should_be() {
        let settings = |customer_keys_need_tls| crate::encryption::Settings { customer_keys_need_tls, ..Default::default() };
        let on = |needed| Encryption::new(&settings(needed), None, None).unwrap();
        for name in [CUSTOMER.key, SOURCE.key] {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static(KEY))].into_iter().collect();
            assert!(check_channel(&headers, true, &on(true)).is_ok() && check_channel(&headers, false, &on(false)).is_ok());
            assert_eq!(check_channel(&headers, false, &on(true)).unwrap_err().code(), Code::InvalidRequest);
        }
        assert!(check_channel(&HeaderMap::new(), false, &on(true)).is_ok());
    }

    #[test]
    fn a_context_is_a_map_of_texts() {
        let context = |value: &'static str| {
            super::context(&[(HeaderName::from_static(KMS_CONTEXT), HeaderValue::from_static(value))].into_iter().collect())
        };
        // {"a":"b"}, {"a":1}, no JSON
        assert_eq!(context("eyJhIjoiYiJ9").unwrap(), BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert!(context("eyJhIjoxfQ==").is_err() && context("aGVsbG8=").is_err() && context("%").is_err());
    }
}
