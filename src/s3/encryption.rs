//! The headers of server-side encryption: whether they make sense at all. Nothing is encrypted yet, but a request that AWS would
//! call wrong is told so rather than that it is not implemented.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;

use super::error::{Code, Failure, Result};
use super::headers::text;

const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const KMS_CONTEXT: &str = "x-amz-server-side-encryption-context";
const CUSTOMER_ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-key";
const CUSTOMER_KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";

/// Whether a customer's key comes with the request, or anything about one.
pub(crate) fn has_customer_key(headers: &HeaderMap) -> bool {
    [CUSTOMER_ALGORITHM, CUSTOMER_KEY, CUSTOMER_KEY_MD5].iter().any(|name| headers.contains_key(*name))
}

/// Checks the headers of a write.
///
/// # Errors
/// `InvalidArgument`, `InvalidEncryptionAlgorithmError`.
pub(crate) fn check(headers: &HeaderMap) -> Result<()> {
    let method = text(headers, METHOD)?;
    let kms = method.is_some_and(|m| m.starts_with("aws:kms"));
    if let Some(method) = method
        && !matches!(method, "AES256" | "aws:kms" | "aws:kms:dsse" | "aws:fsx")
    {
        return Err(Failure::argument(METHOD, method, "The encryption method specified is not supported"));
    }
    if has_customer_key(headers) {
        if let Some(method) = method {
            return Err(Failure::argument(
                METHOD,
                method,
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            ));
        }
        return customer_key(headers);
    }
    for name in [KMS_KEY, KMS_CONTEXT] {
        if !kms && headers.contains_key(name) {
            return Err(Failure::argument(
                METHOD,
                method.unwrap_or_default(),
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
            ));
        }
    }
    Ok(())
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

fn customer_key(headers: &HeaderMap) -> Result<()> {
    let asked = |name: &'static str, message: &'static str| {
        text(headers, name)?.ok_or_else(|| {
            let start = "Requests specifying Server Side Encryption with Customer provided keys must provide";
            Failure::argument(name, "null", format!("{start} {message}"))
        })
    };
    let algorithm = asked(CUSTOMER_ALGORITHM, "a valid encryption algorithm.")?;
    if algorithm != "AES256" {
        return Err(Failure::because(
            Code::InvalidEncryptionAlgorithmError,
            "The Encryption request you specified is not valid. Supported value: AES256.",
        )
        .field("ArgumentName", CUSTOMER_ALGORITHM)
        .field("ArgumentValue", algorithm));
    }
    let key = asked(CUSTOMER_KEY, "an appropriate secret key.")?;
    let md5 = asked(CUSTOMER_KEY_MD5, "the client calculated MD5 of the secret key.")?;
    // The key is a secret: it is not repeated in the answer.
    let key = BASE64
        .decode(key.trim())
        .ok()
        .filter(|k| k.len() == 32)
        .ok_or_else(|| Failure::argument(CUSTOMER_KEY, "", "The secret key was invalid for the specified algorithm."))?;
    let same = BASE64.decode(md5.trim()).is_ok_and(|m| hex::encode(m) == crate::transfer::md5_hex(&key));
    if same {
        Ok(())
    } else {
        let message = "The calculated MD5 hash of the key did not match the hash that was provided.";
        Err(Failure::argument(CUSTOMER_KEY_MD5, md5, message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http::{HeaderName, HeaderValue};

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
    }
}
