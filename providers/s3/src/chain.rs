//! Credentials that a machine is given: for a web identity, by a container's agent, by the metadata service of an instance
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).
//!
//! Each is asked over HTTP, with little patience, and nothing of what it answers is ever part of an error.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Scheme, Uri};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use sluice_provider::{Error, ErrorKind, Result};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::client::connector;
use crate::credentials::{Credentials, Variables, read_small};
use crate::remote::timestamp;
use crate::request::{escape_path, escape_query};

/// How long a connection may take. These services are near, or not there at all.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What such an answer may hold.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Where the agent of a container listens (ECS; EKS, both ways).
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// Where the metadata service of an instance listens.
const METADATA: &str = "http://169.254.169.254";
/// For how long a session with it holds, in seconds.
const SESSION_SECS: &str = "21600";

/// Where credentials come from that are neither in the environment nor in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    web_identity: Option<WebIdentity>,
    container: Option<Container>,
    metadata: Option<String>,
}

#[derive(Clone, Debug)]
struct WebIdentity {
    sts: String,
    role: String,
    session: String,
    token_file: PathBuf,
}

/// An agent, and what it wants to see.
#[derive(Clone)]
struct Container {
    uri: String,
    token_file: Option<PathBuf>,
    token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("uri", &self.uri).field("token_file", &self.token_file).finish_non_exhaustive()
    }
}

/// Credentials, and when they end.
pub(crate) struct Given {
    pub(crate) credentials: Credentials,
    pub(crate) until: Option<SystemTime>,
}

/// What agents and metadata services answer.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "AccessKeyId")]
    access_key: String,
    #[serde(rename = "SecretAccessKey")]
    secret: Zeroizing<String>,
    #[serde(rename = "Token")]
    session_token: Option<String>,
    #[serde(rename = "Expiration")]
    until: Option<String>,
}

#[derive(Deserialize)]
struct Assumed {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: AssumedResult,
}

#[derive(Deserialize)]
struct AssumedResult {
    #[serde(rename = "Credentials")]
    credentials: AssumedCredentials,
}

#[derive(Deserialize)]
struct AssumedCredentials {
    #[serde(rename = "AccessKeyId")]
    access_key: String,
    #[serde(rename = "SecretAccessKey")]
    secret: String,
    #[serde(rename = "SessionToken")]
    session_token: String,
    #[serde(rename = "Expiration")]
    until: String,
}

impl Chain {
    /// What the environment of the process says.
    pub(crate) fn new(variables: &Variables, region: &str) -> Self {
        let get = |name: &str| variables(name).filter(|value| !value.is_empty());
        let web_identity = get("AWS_WEB_IDENTITY_TOKEN_FILE").zip(get("AWS_ROLE_ARN")).map(|(token_file, role)| WebIdentity {
            sts: get("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com")),
            role,
            session: get("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "sluice".to_owned()),
            token_file: token_file.into(),
        });
        let relative = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://{}{path}", AGENTS[0]));
        let container = relative.or_else(|| get("AWS_CONTAINER_CREDENTIALS_FULL_URI")).map(|uri| Container {
            uri,
            token_file: get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
            token: get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Zeroizing::new),
        });
        let disabled = get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let metadata = get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
        Self { web_identity, container, metadata: (!disabled).then_some(metadata) }
    }

    /// For the web identity, if the environment names one.
    pub(crate) async fn web_identity(&self) -> Option<Result<Given>> {
        match &self.web_identity {
            Some(identity) => Some(identity.ask().await),
            None => None,
        }
    }

    /// From the container's agent if the environment names one, else from the instance, if the process may ask.
    pub(crate) async fn machine(&self) -> Option<Result<Given>> {
        if let Some(container) = &self.container {
            return Some(container.ask().await);
        }
        match &self.metadata {
            Some(endpoint) => Some(instance(endpoint).await),
            None => None,
        }
    }
}

impl WebIdentity {
    async fn ask(&self) -> Result<Given> {
        const OPERATION: &str = "credentials for a web identity";
        let token = read_small(&self.token_file).await.map_err(|e| missing(OPERATION).caused_by(e))?;
        let form = Zeroizing::new(escape_query(&[
            ("Action", "AssumeRoleWithWebIdentity".to_owned()),
            ("Version", "2011-06-15".to_owned()),
            ("RoleArn", self.role.clone()),
            ("RoleSessionName", self.session.clone()),
            ("WebIdentityToken", token.trim().to_owned()),
        ]));
        let request = Request::post(format!("{}/", self.sts.trim_end_matches('/')))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form.as_bytes().to_vec()));
        let text = fetch(OPERATION, request).await?;
        let garbage = || missing(OPERATION).with("reason", "the answer is not that of AssumeRoleWithWebIdentity");
        // What the reader stumbled over might be the secret: it is not told.
        let assumed: Assumed = quick_xml::de::from_str(&text).map_err(|_| garbage())?;
        let AssumedCredentials { access_key, secret, session_token, until } = assumed.result.credentials;
        let until = Some(timestamp(&until).ok_or_else(garbage)?);
        let credentials = Credentials { access_key, secret: Zeroizing::new(secret), session_token: Some(session_token) };
        Ok(Given { credentials, until })
    }
}

impl Container {
    async fn ask(&self) -> Result<Given> {
        const OPERATION: &str = "credentials of a container";
        check_agent(&self.uri)?;
        let token = match &self.token_file {
            Some(file) => Some(read_small(file).await.map_err(|e| missing(OPERATION).caused_by(e))?),
            None => self.token.clone(),
        };
        let mut request = Request::get(&self.uri).header("accept", "application/json");
        if let Some(token) = token {
            let mut value = http::HeaderValue::try_from(token.trim())
                .map_err(|_| missing(OPERATION).with("reason", "the token cannot be a header"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        document(OPERATION, &fetch(OPERATION, request.body(Full::default())).await?)
    }
}

/// From the metadata service of an instance, version 2
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).
async fn instance(endpoint: &str) -> Result<Given> {
    const OPERATION: &str = "credentials of an instance";
    const ROLES: &str = "latest/meta-data/iam/security-credentials/";
    let endpoint = endpoint.trim_end_matches('/');
    let session = Request::put(format!("{endpoint}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", SESSION_SECS)
        .header("content-length", "0")
        .body(Full::default());
    let session = fetch(OPERATION, session).await?;
    let get = |path: String| {
        let request = Request::builder().method(Method::GET).uri(format!("{endpoint}/{path}"));
        request.header("x-aws-ec2-metadata-token", session.trim()).body(Full::default())
    };
    let roles = fetch(OPERATION, get(ROLES.to_owned())).await?;
    let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| missing(OPERATION).with("reason", "the instance has no role"))?;
    document(OPERATION, &fetch(OPERATION, get(format!("{ROLES}{}", escape_path(role)))).await?)
}

/// Refuses an agent that is somewhere else: what is sent to it, and what it answers, goes over the network in the clear.
fn check_agent(uri: &str) -> Result<()> {
    let operation = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let parsed: Uri = uri.parse().map_err(|_| missing(operation).with("reason", "it is no URI"))?;
    let host = parsed.host().unwrap_or_default().trim_matches(['[', ']']);
    let near = host == "localhost" || AGENTS.contains(&host) || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if parsed.scheme() == Some(&Scheme::HTTPS) || parsed.scheme() == Some(&Scheme::HTTP) && near {
        return Ok(());
    }
    Err(missing(operation).with("reason", "neither https nor an address of this machine or its agent"))
}

fn document(operation: &'static str, text: &str) -> Result<Given> {
    let garbage = || missing(operation).with("reason", "the answer has no credentials");
    let document: Document = serde_json::from_str(text).map_err(|_| garbage())?;
    let until = document.until.map(|until| timestamp(&until).ok_or_else(garbage)).transpose()?;
    let Document { access_key, secret, session_token, .. } = document;
    if access_key.is_empty() || secret.is_empty() {
        return Err(garbage());
    }
    Ok(Given { credentials: Credentials { access_key, secret, session_token }, until })
}

fn missing(operation: &'static str) -> Error {
    Error::new(ErrorKind::PermissionDenied, operation)
}

/// The text that a service answers with.
async fn fetch(operation: &'static str, request: http::Result<Request<Full<Bytes>>>) -> Result<Zeroizing<String>> {
    let request = request.map_err(|e| missing(operation).caused_by(e))?;
    let place = format!("{}://{}", request.uri().scheme_str().unwrap_or_default(), request.uri().host().unwrap_or_default());
    let failed = || missing(operation).with("service", &place);
    let https = request.uri().scheme() == Some(&Scheme::HTTPS);
    // Made for one or three requests each hour: nothing is kept open between them.
    let pool: Pool<_, Full<Bytes>> = Pool::builder(TokioExecutor::new()).build(connector(https, CONNECT)?);
    let asking = async {
        let answer = pool.request(request).await.map_err(|e| failed().caused_by(e))?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|e| failed().caused_by(e))?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                return Err(failed().with("reason", "the answer is too long"));
            }
            bytes.extend_from_slice(&data);
        }
        if status != StatusCode::OK {
            return Err(failed().with("status", status.as_u16()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| failed().with("reason", "the answer is not text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    };
    timeout(ANSWER, asking).await.map_err(|_| failed().with("reason", "it did not answer in time"))?
}

/// A file that holds little: a token, or profiles.
pub(crate) fn small_file(path: &Path, most: u64) -> std::io::Result<Zeroizing<String>> {
    if std::fs::metadata(path)?.len() > most {
        return Err(std::io::Error::other("it is too large"));
    }
    std::fs::read_to_string(path).map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
