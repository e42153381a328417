//! POST forms (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>).
//!
//! The framework reads the form, checks signature, policy and conditions, and streams the file. It drops the fields that it has
//! no place for (`acl`, `tagging`), so the fields are read once more from a copy of the first bytes of the body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use s3s::dto::{ETag, PostObjectInput, PostObjectOutput};
use s3s::{S3, S3Request, S3Response, S3Result};
use sluice_provider::PutOptions;

use super::access::{Admitted, check_token};
use super::auth::to_framework;
use super::error::{Code, Failure, Result};
use super::front::{Operation, Parts, RequestFacts};
use super::operation::Op;
use super::policy::{self, About};
use super::query::Query;
use super::{acl, body, conditions, encryption, front, headers, tagging, xml};
use crate::encryption::At;
use crate::objects::attribute;
use crate::s3::call::set_new_version;
use crate::s3::lock;

/// The most bytes that fields may take before the file.
pub(crate) const MAX_FIELDS_BYTES: usize = 256 * 1024;

/// The first bytes of a form. Among the request's extensions.
#[derive(Clone, Default)]
pub(crate) struct Copied(Arc<Mutex<Vec<u8>>>);

impl Copied {
    /// The fields before the file.
    fn fields(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let bytes = self.0.lock();
        boundary(headers).map(|b| fields(&bytes, &b)).unwrap_or_default()
    }
}

/// A body whose first bytes are kept in a [`Copied`].
pub(crate) struct Copying<B> {
    body: B,
    copied: Copied,
}

impl<B> Copying<B> {
    /// Keeps the first bytes of `body`.
    pub(crate) fn new(body: B, copied: Copied) -> Self {
        Self { body, copied }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Copying<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            let mut copied = self.copied.0.lock();
            let room = MAX_FIELDS_BYTES.saturating_sub(copied.len()).min(data.len());
            copied.extend_from_slice(&data[..room]);
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let parameter = value.split(';').map(str::trim).find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    Some(parameter.trim_matches('"').to_owned())
}

/// A form that says who sends it but is not signed is not an anonymous one: something is missing.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn refuse_unsigned_policy(copied: &Copied, headers: &HeaderMap) -> Result<()> {
    let fields = copied.fields(headers);
    let has = |name: &str| fields.iter().any(|(n, _)| n == name);
    let signed = has("signature") || has("x-amz-signature");
    if !signed && ["policy", "awsaccesskeyid", "x-amz-credential"].into_iter().any(has) {
        let message =
            "Bucket POST must contain a field named 'Signature'.  If it is specified, please check the order of the fields.";
        return Err(Failure::argument("Signature", "", message));
    }
    Ok(())
}

/// Whether a policy's `expiration` is written as the documentation has it, `2013-08-06T12:00:00.000Z`: the framework reads more.
fn check_expiration(policy: &str) -> Result<()> {
    let document: Option<serde_json::Value> =
        BASE64.decode(policy.trim()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let text = document.as_ref().and_then(|d| d.get("expiration")).and_then(|e| e.as_str()).unwrap_or_default();
    if text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z') {
        return Ok(());
    }
    Err(Failure::because(Code::InvalidPolicyDocument, format!("Invalid Policy: Invalid 'expiration' value: '{text}'")))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The fields before the file, names in lower case. The framework has accepted the form, so this need not complain.
fn fields(bytes: &[u8], boundary: &str) -> Vec<(String, String)> {
    let delimiter = format!("--{boundary}");
    let mut rest = bytes;
    let mut fields = Vec::new();
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        let part = &rest[at + delimiter.len()..];
        let Some(head_end) = find(part, b"\r\n\r\n") else { break };
        let head = String::from_utf8_lossy(&part[..head_end]);
        let parameter = |wanted: &str| {
            head.split(['\r', '\n', ';']).map(str::trim).find_map(|p| {
                let (name, value) = p.split_once('=')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"').to_owned())
            })
        };
        let Some(name) = parameter("name").map(|n| n.to_ascii_lowercase()) else { break };
        if name == "file" {
            break;
        }
        let value = &part[head_end + 4..];
        let Some(end) = find(value, format!("\r\n{delimiter}").as_bytes()) else { break };
        fields.push((name, String::from_utf8_lossy(&value[..end]).into_owned()));
        rest = &value[end + 2..];
    }
    fields
}

/// Fields as the headers of a PUT would say it.
fn to_headers(fields: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    headers
}

/// The typed side of the framework, which only forms reach.
pub(crate) struct Forms(Arc<Parts>);

impl Forms {
    /// Over the layers beneath.
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    async fn store(&self, request: S3Request<PostObjectInput>) -> Result<S3Response<PostObjectOutput>> {
        let Admitted { identity, actor, namespace, ground } =
            request.extensions.get::<Admitted>().cloned().ok_or(Code::AccessDenied)?;
        let namespace = namespace.ok_or(Code::AccessDenied)?;
        let copied = request.extensions.get::<Copied>().cloned().unwrap_or_default();
        refuse_unsigned_policy(&copied, &request.headers)?;
        let fields = copied.fields(&request.headers);
        let mut said = to_headers(&fields);
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if let Some(policy) = field("policy") {
            check_expiration(policy)?;
        }
        let input = request.input;
        if input.key.is_empty() {
            return Err(Failure::argument("key", "", "User key must have a length greater than 0."));
        }
        if input.key.len() > sluice_provider::MAX_KEY_BYTES {
            return Err(Code::KeyTooLongError.into());
        }
        let token = field("x-amz-security-token").filter(|t| !t.is_empty());
        match actor.credential() {
            Some(credential) => check_token(credential, token, false)?,
            None if token.is_some() => return Err(Code::InvalidToken.into()),
            None => {}
        }
        if let Some(name) = said.remove("acl") {
            said.insert("x-amz-acl", name);
        }
        headers::refuse_unkept(&said)?;
        let mut attributes = headers::to_attributes(&said)?;
        let tags = match field("tagging").filter(|t| !t.is_empty()) {
            Some(text) => tagging::from_xml(&xml::parse(text.as_bytes(), "Tagging")?, tagging::MAX_OBJECT_TAGS)?,
            None => tagging::from_header(field("x-amz-tagging").unwrap_or_default())?,
        };
        if !tags.is_empty() {
            attributes.set(attribute::TAGS, tagging::to_attribute(&tags));
        }
        let (query, peer) = (Query::default(), front::peer(&request.extensions));
        let about = About { form: true, tags: Some(&tags), ..About::new(Op::PutObject, &input.key, &said, &query, peer) };
        ground.settle(policy::decide(&self.0, &actor, &namespace, about).await?)?;
        acl::new_object(&self.0, &identity, &namespace, &said, &mut attributes).await?;
        lock::new_object(&namespace, &said, &mut attributes)?;
        let when = conditions::write(&said)?;
        let file = input.body.ok_or(Code::MalformedPOSTRequest)?;
        let size = s3s::stream::ByteStream::remaining_length(&file).exact().map(|n| n as u64);
        let declared = body::form(&said, size, self.0.settings.max_write_size_bytes)?;
        encryption::check_channel(&said, peer.is_some_and(|peer| peer.secure), self.0.objects.encryption())?;
        let wish = encryption::wish(&said, &namespace)?;
        let file = body::form_body(file, declared);
        let at = At { bucket: &namespace.bucket.name, key: &input.key };
        let file = match &wish {
            Some(wish) => self.0.objects.encryption().seal(at, wish, file).await?,
            None => file,
        };
        let put = PutOptions { when, attributes };
        let info = self.0.objects.put(&namespace, &input.key, file, put).await?;

        // With the quotes that AWS shows in the document and in the redirect.
        let etag = format!("\"{}\"", info.etag);
        let mut response =
            S3Response::new(PostObjectOutput { e_tag: Some(ETag::Strong(etag.clone())), ..PostObjectOutput::default() });
        if let Ok(value) = HeaderValue::from_str(&etag) {
            response.headers.insert(http::header::ETAG, value);
        }
        super::checksums::to_headers(&info.attributes, &mut response.headers);
        set_new_version(&mut response.headers, &info.attributes);
        encryption::to_headers(&info.attributes, encryption::customer_of(wish.as_ref()), &mut response.headers)?;
        response.extensions.insert(Operation("PostObject"));
        let access_key = request.credentials.map(|c| c.access_key).unwrap_or_default();
        response.extensions.insert(RequestFacts { bucket: input.bucket, key: input.key, access_key, error: "" });
        Ok(response)
    }
}

#[async_trait::async_trait]
impl S3 for Forms {
    async fn post_object(&self, request: S3Request<PostObjectInput>) -> S3Result<S3Response<PostObjectOutput>> {
        self.store(request).await.map_err(|failure| {
            if let Some(cause) = failure.cause().filter(|_| failure.code().status().is_server_error()) {
                tracing::error!(operation = "PostObject", error = %cause, "request failed");
            }
            to_framework(&failure)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn fields_are_read_up_to_the_file() {
        let form = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na b\r\n\
                     --B\r\ncontent-disposition: form-data; name=\"Tagging\"\r\nContent-Type: text/xml\r\n\r\n<Tagging/>\r\n\
                     --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\ndata\r\n--B--\r\n";
        assert_eq!(fields(form, "B"), [("key".into(), "a b".into()), ("tagging".into(), "<Tagging/>".into())]);
        assert!(fields(&form[..30], "B").is_empty());
    }

    #[test]
    fn a_boundary_may_be_quoted() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; charset=utf-8; Boundary=\"x-y\""));
        assert_eq!(boundary(&headers).as_deref(), Some("x-y"));
    }
}
