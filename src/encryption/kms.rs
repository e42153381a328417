//! A key management service that speaks the protocol of AWS KMS
//! (<https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html>,
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>).
//!
//! The service never sees an object's data key: it makes a key that wraps it. Objects of a bucket may share that one for a while (S3
//! Bucket Keys), and what was opened a moment ago is not asked for again. Calls are bounded in number, time and tries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use moka::future::Cache;
use s3s_sigv4::{AmzDate, Payload};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::At;
use super::cipher::DataKey;
use super::envelope::Base64;
use super::settings::Settings;
use crate::error::{EncryptionFault, Error, ErrorKind, Result};
use crate::tokens::Secret;
use crate::transfer::{Algorithm, Hasher};

/// Calls at once.
const CALLS: usize = 64;
/// How often a call is tried when the service is busy or cannot be reached.
const TRIES: u32 = 3;
/// The pause before the second try; twice that before the third.
const PAUSE: Duration = Duration::from_millis(50);
/// A longer answer is none of KMS.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const SERVICE: &str = "kms";
const CONTENT: &str = "application/x-amz-json-1.1";
const AMZ_DATE: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// Who the gateway is to the service.
#[derive(Debug)]
pub struct KmsCredential {
    /// The id of the access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
}

/// A key that the service made.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) key: Arc<DataKey>,
    /// The same, as the service opens it again.
    pub(super) sealed: Base64,
    /// The full name of the service's key.
    pub(super) name: String,
}

/// The service.
pub(super) struct Kms {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    region: String,
    credential: KmsCredential,
    timeout: Duration,
    calls: Semaphore,
    /// By key, context and what was sealed.
    opened: Cache<String, Arc<DataKey>>,
    /// What objects of a bucket share, by bucket, key and context.
    shared: Cache<String, Arc<Made>>,
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kms").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

type Context = BTreeMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GenerateDataKey<'a> {
    key_id: &'a str,
    key_spec: &'static str,
    encryption_context: &'a Context,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    key_id: &'a str,
    ciphertext_blob: String,
    encryption_context: &'a Context,
}

/// What both calls answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    #[serde(default)]
    key_id: String,
    plaintext: Wiped,
    #[serde(default)]
    ciphertext_blob: String,
}

/// A text that is wiped when it is dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Wiped(Zeroizing<String>);

impl From<String> for Wiped {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Kms {
    /// `None` when none is configured.
    ///
    /// # Errors
    /// `InvalidArgument` when the endpoint is none, or the credential is missing.
    pub(super) fn new(settings: &Settings, credential: Option<KmsCredential>) -> Result<Option<Self>> {
        if settings.kms_endpoint.is_empty() {
            return Ok(None);
        }
        let refused = |message: &'static str| Error::new(ErrorKind::InvalidArgument(message.into()), "encryption.kms_endpoint");
        let endpoint: Uri = settings.kms_endpoint.parse().map_err(|_| refused("it is no URL"))?;
        if !matches!(endpoint.scheme_str(), Some("http" | "https")) || endpoint.authority().is_none() {
            return Err(refused("it is no URL that begins with http:// or https://"));
        }
        let credential =
            credential.ok_or_else(|| refused("it needs a credential: set SLUICE_KMS_ACCESS_KEY and SLUICE_KMS_SECRET_KEY"))?;
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(rustls::crypto::ring::default_provider());
        let tls = tls.map_err(|e| refused("the certificates of this machine cannot be read").caused_by(e))?;
        let client = Client::builder(TokioExecutor::new()).build(tls.https_or_http().enable_http1().build());
        let cache = || Cache::builder().max_capacity(settings.kms_cache_entries);
        let ttl = Duration::from_secs(settings.kms_cache_secs);
        Ok(Some(Self {
            client,
            endpoint,
            region: settings.kms_region.clone(),
            credential,
            timeout: Duration::from_secs(settings.kms_timeout_secs.max(1)),
            calls: Semaphore::new(CALLS),
            opened: cache().time_to_live(ttl).build(),
            shared: Cache::builder().max_capacity(settings.kms_cache_entries).time_to_live(ttl).build(),
        }))
    }

    /// A key for an object, or one that objects of the bucket share.
    ///
    /// # Errors
    /// `Encryption` as the service refuses.
    pub(super) async fn make(&self, name: &str, at: At<'_>, context: &Context, bucket_key: bool) -> Result<Made> {
        let context = full_context(at, context, bucket_key);
        if !bucket_key {
            return self.generate(name, &context).await;
        }
        let id = text(&(at.bucket, name, &context))?;
        let made = self.shared.try_get_with(id, async { self.generate(name, &context).await.map(Arc::new) }).await;
        made.map(|made| Made::clone(&made)).map_err(|error| Error::new(error.kind().clone(), "share a key").caused_by(error))
    }

    /// Opens what the service made.
    ///
    /// # Errors
    /// `Encryption` as the service refuses.
    pub(super) async fn open(
        &self,
        name: &str,
        sealed: &Base64,
        at: At<'_>,
        context: &Context,
        bucket_key: bool,
    ) -> Result<Arc<DataKey>> {
        let context = full_context(at, context, bucket_key);
        let sealed = BASE64.encode(&sealed.0);
        let id = text(&(name, &context, &sealed))?;
        let opening = async {
            let call = Decrypt { key_id: name, ciphertext_blob: sealed, encryption_context: &context };
            let answer = self.call("Decrypt", name, &text(&call)?).await?;
            key(&answer).map(Arc::new)
        };
        let opened = self.opened.try_get_with(id, opening).await;
        opened.map_err(|error| Error::new(error.kind().clone(), "open a key").caused_by(error))
    }

    async fn generate(&self, name: &str, context: &Context) -> Result<Made> {
        let call = GenerateDataKey { key_id: name, key_spec: "AES_256", encryption_context: context };
        let answer = self.call("GenerateDataKey", name, &text(&call)?).await?;
        let sealed = BASE64.decode(&answer.ciphertext_blob).ok().filter(|sealed| !sealed.is_empty()).ok_or_else(nonsense)?;
        let name = if answer.key_id.is_empty() { name.to_owned() } else { answer.key_id.clone() };
        Ok(Made { key: Arc::new(key(&answer)?), sealed: Base64(sealed), name })
    }

    /// Calls the service, again when that may help.
    async fn call(&self, action: &'static str, name: &str, body: &str) -> Result<Answered> {
        let unavailable = || Error::new(ErrorKind::Encryption(EncryptionFault::ServiceUnavailable), "call the key service");
        let mut tried = 0;
        loop {
            tried += 1;
            let once = async {
                let _permit = self.calls.acquire().await.map_err(|e| unavailable().caused_by(e))?;
                self.call_once(action, body).await
            };
            let failed = match tokio::time::timeout(self.timeout, once).await {
                Ok(Ok((StatusCode::OK, answer))) => {
                    return serde_json::from_slice(&answer).map_err(|_| nonsense());
                }
                Ok(Ok((status, answer))) => {
                    let refused: Refused = serde_json::from_slice(&answer).unwrap_or_default();
                    match fault(status, &refused, name) {
                        Some(fault) => {
                            let error = Error::new(ErrorKind::Encryption(fault), "call the key service");
                            return Err(error.with("action", action).with("key", name).with("message", refused.message));
                        }
                        None => unavailable().with("status", status).with("message", refused.message),
                    }
                }
                Ok(Err(error)) => error,
                Err(_) => unavailable().with("timeout", format!("{:?}", self.timeout)),
            };
            if tried == TRIES {
                return Err(failed.with("action", action).with("tried", tried));
            }
            tokio::time::sleep(PAUSE * (1 << (tried - 1))).await;
        }
    }

    async fn call_once(&self, action: &'static str, body: &str) -> Result<(StatusCode, Zeroizing<Vec<u8>>)> {
        let failed = || Error::new(ErrorKind::Encryption(EncryptionFault::ServiceUnavailable), "call the key service");
        let request = self.request(action, body)?;
        let response = self.client.request(request).await.map_err(|e| failed().caused_by(e))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let answer = answer.map_err(|e| failed().caused_by(e))?;
        Ok((status, Zeroizing::new(answer.to_bytes().to_vec())))
    }

    /// A signed request (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
    fn request(&self, action: &'static str, body: &str) -> Result<Request<Full<Bytes>>> {
        let wrong = || Error::new(ErrorKind::Internal, "sign a call of the key service");
        let host = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let target = format!("TrentService.{action}");
        let now = OffsetDateTime::from(SystemTime::now()).format(AMZ_DATE).map_err(|e| wrong().caused_by(e))?;
        let date = AmzDate::parse(&now).map_err(|_| wrong())?;
        let digest = hex::encode(Hasher::once(Algorithm::Sha256, body.as_bytes()));
        // In order of their names.
        let headers = [("content-type", CONTENT), ("host", host), ("x-amz-date", &now), ("x-amz-target", &target)];
        let query: [(&str, &str); 0] = [];
        let canonical = s3s_sigv4::create_canonical_request("POST", "/", &query, headers, Payload::SingleChunk(&digest));
        let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, &self.region, SERVICE);
        let signature =
            s3s_sigv4::calculate_signature(&to_sign, self.credential.secret_key.expose(), &date, &self.region, SERVICE);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/{SERVICE}/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature={signature}",
            self.credential.access_key,
            date.fmt_date(),
            self.region,
        );
        let mut uri = self.endpoint.clone().into_parts();
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(uri).map_err(|e| wrong().caused_by(e))?;
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(HOST, host)
            .header(CONTENT_TYPE, CONTENT)
            .header("x-amz-date", &now)
            .header("x-amz-target", &target)
            .header(http::header::AUTHORIZATION, authorization)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|e| wrong().caused_by(e))
    }
}

/// What the service means; `None` when it may change its mind.
fn fault(status: StatusCode, refused: &Refused, name: &str) -> Option<EncryptionFault> {
    let kind = refused.kind.rsplit('#').next().unwrap_or_default();
    match kind {
        "NotFoundException" | "InvalidArnException" => Some(EncryptionFault::NoSuchKey(name.to_owned())),
        "DisabledException" | "KMSInvalidStateException" | "InvalidKeyUsageException" => {
            Some(EncryptionFault::KeyDisabled(name.to_owned()))
        }
        "ThrottlingException" | "LimitExceededException" | "KMSInternalException" | "DependencyTimeoutException" => None,
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => None,
        // Not allowed, or not what it has sealed: nothing that another try would change.
        _ => Some(EncryptionFault::Refused),
    }
}

/// What a key is bound to on the side of the service: the place, as S3 says it, and what the client adds
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#encryption-context>).
fn full_context(at: At<'_>, context: &Context, bucket_key: bool) -> Context {
    let mut full = context.clone();
    let arn = if bucket_key { format!("arn:aws:s3:::{}", at.bucket) } else { format!("arn:aws:s3:::{}/{}", at.bucket, at.key) };
    full.insert("aws:s3:arn".to_owned(), arn);
    full
}

fn key(answer: &Answered) -> Result<DataKey> {
    let raw = BASE64.decode(answer.plaintext.0.as_bytes()).map(Zeroizing::new).map_err(|_| nonsense())?;
    DataKey::from_slice(&raw).ok_or_else(nonsense)
}

fn text<T: Serialize>(of: &T) -> Result<String> {
    serde_json::to_string(of).map_err(|e| Error::new(ErrorKind::Internal, "write a call of the key service").caused_by(e))
}

/// The answer is not repeated: it may hold a key.
fn nonsense() -> Error {
    Error::new(ErrorKind::Encryption(EncryptionFault::ServiceUnavailable), "read the answer of the key service")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const HERE: At<'static> = At { bucket: "bucket", key: "key" };

    /// A service that answers with these, one after the other, and remembers what was asked.
    async fn service(answers: Vec<(u16, &'static str)>) -> (Kms, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kms_endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            for (status, answer) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.extend_from_slice(&buffer[..read]);
                }
                heard.lock().unwrap().push(String::from_utf8(request).unwrap());
                let length = answer.len();
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        let settings = Settings { kms_endpoint, kms_timeout_secs: 5, ..Settings::default() };
        let credential = KmsCredential { access_key: "AK".into(), secret_key: Secret::new("hidden".into()) };
        (Kms::new(&settings, Some(credential)).unwrap().unwrap(), asked)
    }

    const MADE: &str =
        r#"{"KeyId":"arn:k","Plaintext":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","CiphertextBlob":"c2VhbGVk"}"#;

    #[tokio::test]
    async fn what_was_opened_a_moment_ago_is_not_asked_for_again() {
        let (kms, asked) = service(vec![(200, MADE), (200, MADE), (200, MADE)]).await;
        let context = Context::from([("a".to_owned(), "b".to_owned())]);
        let made = kms.make("k", HERE, &context, false).await.unwrap();
        assert_eq!((made.name.as_str(), made.sealed.0.as_slice()), ("arn:k", &b"sealed"[..]));
        for _ in 0..3 {
            kms.open("arn:k", &made.sealed, HERE, &context, false).await.unwrap();
        }
        for _ in 0..3 {
            kms.make("k", HERE, &context, true).await.unwrap();
        }
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 3);
        assert!(asked[0].contains("TrentService.GenerateDataKey") && asked[0].contains("AES_256"));
        assert!(asked[0].contains(r#""EncryptionContext":{"a":"b","aws:s3:arn":"arn:aws:s3:::bucket/key"}"#), "{}", asked[0]);
        assert!(asked[1].contains("TrentService.Decrypt") && asked[1].contains("c2VhbGVk"));
        assert!(asked[2].contains(r#""aws:s3:arn":"arn:aws:s3:::bucket""#), "{}", asked[2]);
        assert!(asked.iter().all(|request| request.contains("AWS4-HMAC-SHA256 Credential=AK/") && !request.contains("hidden")));
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_a_fault_is_tried_again() {
        let busy = (503, "{}");
        let slow = (400, r#"{"__type":"ThrottlingException"}"#);
        let (kms, _) = service(vec![busy, slow, (200, MADE)]).await;
        kms.make("k", HERE, &Context::new(), false).await.unwrap();
        let kind = |name: &'static str, expected: EncryptionFault| async move {
            let (kms, asked) = service(vec![(400, name)]).await;
            let error = kms.make("k", HERE, &Context::new(), false).await.err().unwrap();
            assert!(matches!(error.kind(), ErrorKind::Encryption(fault) if *fault == expected), "{error}");
            assert_eq!(asked.lock().unwrap().len(), 1);
        };
        kind(r#"{"__type":"com.amazonaws.kms#NotFoundException"}"#, EncryptionFault::NoSuchKey("k".into())).await;
        kind(r#"{"__type":"DisabledException"}"#, EncryptionFault::KeyDisabled("k".into())).await;
        kind(r#"{"__type":"AccessDeniedException","message":"no"}"#, EncryptionFault::Refused).await;
        let (kms, asked) = service(vec![busy, busy, busy]).await;
        let error = kms.make("k", HERE, &Context::new(), false).await.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Encryption(EncryptionFault::ServiceUnavailable)));
        assert_eq!(asked.lock().unwrap().len(), 3);
    }

    #[test]
    fn an_endpoint_needs_a_credential_and_a_scheme() {
        let with = |endpoint: &str, credential| {
            Kms::new(&Settings { kms_endpoint: endpoint.to_owned(), ..Settings::default() }, credential).map(|kms| kms.is_some())
        };
        let credential = || Some(KmsCredential { access_key: "AK".into(), secret_key: Secret::new("s".into()) });
        assert!(!with("", None).unwrap());
        assert!(
            with("http://h:1", None).is_err() && with("h:1", credential()).is_err() && with("ftp://h", credential()).is_err()
        );
    }
}
