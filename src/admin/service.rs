//! Which call is meant, and who may make it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Failure, empty, json, with};
use super::reload::{self, Reload};
use super::{auth, health, keys, lifecycle, mounts, opstats};
use crate::handles::{Purpose, Registry};
use crate::lifecycle::Lifecycle;
use crate::meta::MetaStore;
use crate::namespaces::Namespaces;
use crate::runtime::Drain;
use crate::telemetry::{AuditLine, Explanations, Metrics, RequestId};
use crate::tokens::{Secret, Tokens};

/// The largest body in bytes.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// How many handles a snapshot shows.
const MAX_HANDLES: usize = 1000;
const INSTANCE: HeaderName = HeaderName::from_static("x-sluice-instance");

/// What the service stands on.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The metadata store.
    pub store: Arc<dyn MetaStore>,
    /// Buckets.
    pub namespaces: Arc<Namespaces>,
    /// The lifecycle of buckets.
    pub lifecycle: Arc<Lifecycle>,
    /// Access keys.
    pub tokens: Arc<Tokens>,
    /// Open handles.
    pub handles: Registry,
    /// Metrics.
    pub metrics: &'static Metrics,
    /// The drain of the S3 listener: a gateway that drains is not ready.
    pub drain: Drain,
    /// Takes the configuration over anew.
    pub reload: Reload,
    /// Names this process.
    pub instance_id: Arc<str>,
    /// The bearer token of the API.
    pub token: Arc<Secret>,
    /// Memory that the gateway is meant to have, in bytes; 0: what the system lets it have.
    pub memory_limit: u64,
}

/// Who is at the other end. Among the request's extensions, for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Parts>);

#[derive(Serialize)]
struct Handles {
    open: usize,
    handles: Vec<Handle>,
}

#[derive(Serialize)]
struct Handle {
    bucket: String,
    key: String,
    purpose: &'static str,
    age_ms: u64,
}

impl Admin {
    /// Builds the service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Answers a request. Every error is an answer.
    pub async fn call<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::next);
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        let asked = changes.then(|| {
            let remote = request.extensions().get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
            (request.method().clone(), request.uri().path().to_owned(), remote)
        });
        let mut answer = match self.route(request).await {
            Ok(answer) => answer,
            Err(failure) => failure.answer(&request_id),
        };
        if let Some((method, path, remote)) = asked {
            let status = answer.status().as_u16();
            let who = if status == 401 { "" } else { "admin" };
            let (request_id, op) = (&*request_id.0, method.as_str());
            AuditLine { request_id, remote: &remote, who, op, resource: &path, key: "", status }.administrative();
        }
        if let Ok(instance) = HeaderValue::from_str(&self.0.instance_id) {
            answer.headers_mut().insert(INSTANCE, instance);
        }
        answer
    }

    async fn route<B>(&self, request: Request<B>) -> Result<Answer, Failure>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let parts = &*self.0;
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let read = matches!(head.method, Method::GET | Method::HEAD);
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        let open = match steps[..] {
            ["health" | "metrics"] | ["health", _] if !read => return Err(not_allowed("GET, HEAD")),
            ["health" | "metrics"] | ["health", _] => true,
            _ => false,
        };
        if !open {
            self.authorize(head.headers.get(header::AUTHORIZATION))?;
        }
        let method = head.method.as_str();
        match steps[..] {
            ["health", "live"] | ["health"] => Ok(health::live(parts)),
            ["health", "ready"] => Ok(health::ready(parts).await),
            ["metrics"] => Ok(metrics(parts, head.headers.get(header::ACCEPT))),
            ["api", "v1", "keys"] => match method {
                "GET" | "HEAD" => keys::list(parts).await,
                "POST" => keys::create(parts, read_json(&head.headers, body).await?).await,
                _ => Err(not_allowed("GET, HEAD, POST")),
            },
            ["api", "v1", "keys", key] => match method {
                "DELETE" => keys::delete(parts, &decoded(key)?).await.map(|()| empty()),
                _ => Err(not_allowed("DELETE")),
            },
            ["api", "v1", "auth", "revoke"] => match method {
                "POST" => auth::revoke(parts, read_json(&head.headers, body).await?).await.map(|()| empty()),
                _ => Err(not_allowed("POST")),
            },
            ["api", "v1", "auth", "revocations"] if read => {
                let after = query_value(head.uri.query().unwrap_or(""), "after")?;
                auth::list(parts, after.as_deref().unwrap_or_default()).await
            }
            ["api", "v1", "auth", "revocations"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "auth", "reseal"] => match method {
                "POST" => auth::reseal(parts).await,
                _ => Err(not_allowed("POST")),
            },
            ["api", "v1", "buckets", bucket, "mounts"] => {
                let bucket = decoded(bucket)?;
                match method {
                    "GET" | "HEAD" => mounts::list(parts, &bucket).await,
                    "POST" => mounts::add(parts, &bucket, read_json(&head.headers, body).await?).await,
                    "DELETE" => {
                        let prefix = query_value(head.uri.query().unwrap_or(""), "prefix")?;
                        let prefix = prefix.ok_or_else(|| Failure::invalid("The query must name the `prefix`."))?;
                        mounts::remove(parts, &bucket, &prefix).await.map(|()| empty())
                    }
                    _ => Err(not_allowed("GET, HEAD, POST, DELETE")),
                }
            }
            ["api", "v1", "buckets", bucket, "caps"] if read => mounts::capabilities(parts, &decoded(bucket)?).await,
            ["api", "v1", "buckets", _, "caps"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "providers"] if read => Ok(mounts::kinds()),
            ["api", "v1", "providers"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "buckets", bucket, "lifecycle", "plan"] if read => {
                let query = head.uri.query().unwrap_or("");
                lifecycle::plan(parts, &decoded(bucket)?, query_value(query, "at")?, query_value(query, "limit")?).await
            }
            ["api", "v1", "buckets", _, "lifecycle", "plan"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "opstats"] => match method {
                "GET" | "HEAD" => {
                    let format = query_value(head.uri.query().unwrap_or(""), "format")?;
                    opstats::show(format.as_deref().unwrap_or_default())
                }
                "DELETE" => opstats::clear().map(|()| empty()),
                _ => Err(not_allowed("GET, HEAD, DELETE")),
            },
            ["api", "v1", "alerts"] if read => Ok(opstats::alerts(parts)),
            ["api", "v1", "alerts"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "requests", id, "explanation"] if read => explanation(&decoded(id)?),
            ["api", "v1", "requests", _, "explanation"] => Err(not_allowed("GET, HEAD")),
            ["api", "v1", "reload"] => match method {
                "POST" => reload::run(parts).await,
                _ => Err(not_allowed("POST")),
            },
            ["api", "v1", "handles"] if read => Ok(handles(parts)),
            ["api", "v1", "handles"] => Err(not_allowed("GET, HEAD")),
            _ => Err(Failure::no_such("such path")),
        }
    }

    fn authorize(&self, header: Option<&HeaderValue>) -> Result<(), Failure> {
        let given = header.and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        // In constant time: how much of a guess is right must not show.
        if given.is_some_and(|given| self.0.token.matches(given)) {
            return Ok(());
        }
        let message = "This call wants the admin token: `Authorization: Bearer …`.";
        Err(Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message))
    }
}

fn metrics(parts: &Parts, accept: Option<&HeaderValue>) -> Answer {
    let openmetrics =
        accept.and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("application/openmetrics-text"));
    let content_type = if openmetrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    with(StatusCode::OK, content_type, Bytes::from(parts.metrics.render(openmetrics)))
}

fn handles(parts: &Parts) -> Answer {
    let shown = parts.handles.snapshot(MAX_HANDLES).into_iter().map(|handle| Handle {
        bucket: handle.bucket,
        key: handle.key,
        purpose: match handle.purpose {
            Purpose::Read => "read",
            Purpose::Write => "write",
            Purpose::Part => "part",
        },
        age_ms: u64::try_from(handle.age.as_millis()).unwrap_or(u64::MAX),
    });
    json(StatusCode::OK, &Handles { handles: shown.collect(), open: parts.handles.len() })
}

/// Why a request was refused lately.
fn explanation(request_id: &str) -> Result<Answer, Failure> {
    let Some(found) = Explanations::here().of(request_id) else {
        return Err(Failure::no_such("such request among the last whose signature was refused by this gateway"));
    };
    let facts = found.facts.into_iter().map(|(name, value)| Fact { name, value }).collect();
    Ok(json(StatusCode::OK, &Explained { request_id: found.request_id, at_ms: found.at, code: found.code, facts }))
}

#[derive(Serialize)]
struct Explained {
    request_id: String,
    at_ms: i64,
    code: &'static str,
    facts: Vec<Fact>,
}

#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

fn not_allowed(allow: &'static str) -> Failure {
    let message = format!("This path takes {allow}.");
    Failure { allow: Some(allow), ..Failure::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message) }
}

fn decoded(text: &str) -> Result<String, Failure> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| Failure::invalid("The path is not UTF-8."))?;
    Ok(text.into_owned())
}

fn query_value(query: &str, name: &str) -> Result<Option<String>, Failure> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    });
    value.map(|value| decoded(&value.replace('+', " "))).transpose()
}

async fn read_json<T, B>(headers: &http::HeaderMap, body: B) -> Result<T, Failure>
where
    T: DeserializeOwned,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let too_large = || {
        let message = format!("A body may have {MAX_BODY_BYTES} bytes.");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
    };
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(Failure::invalid("The body broke off.")),
    };
    // The message of the parser may quote the body, which may hold a secret: only where, not what.
    serde_json::from_slice(&body).map_err(|error| {
        let what = if error.is_data() { "does not have the fields that this call wants" } else { "is not JSON" };
        Failure::invalid(format!("The body {what} (line {}, column {}).", error.line(), error.column()))
    })
}
