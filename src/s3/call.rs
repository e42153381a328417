//! A request on its way through an operation, and the answers operations give.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use s3s::{Body, TrailingHeaders};
use sluice_provider::{Attributes, PutBody, VERSION_ATTRIBUTE, VersionId, Versioning};

use super::access::{Ground, check_owner};
use super::acl::{self, People};
use super::body;
use super::error::{Code, Failure, Result};
use super::front::Peer;
use super::headers::text;
use super::operation::Op;
use super::policy::{self, About};
use super::query::Query;
use super::tagging::Tags;
use super::xml::{self, Element, Xml};
use super::{Parts, conditions};
use crate::encryption::{At, Wish};
use crate::error::ErrorKind;
use crate::meta::UploadRecord;
use crate::namespaces::Namespace;
use crate::tokens::acl::Permission;
use crate::tokens::policy::Decision;
use crate::tokens::{Actor, Identity};
use crate::transfer::Declared;

/// What an operation answers.
pub(crate) type Answer = Result<Response<Body>>;

/// A request whose sender is known and may act on the bucket.
pub(crate) struct Call {
    /// What the front end stands on.
    pub(crate) parts: Arc<Parts>,
    /// The operation.
    pub(crate) op: Op,
    /// The bucket; empty for none.
    pub(crate) bucket: String,
    /// The key; empty for none.
    pub(crate) key: String,
    /// The query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Body,
    /// Trailers; there exactly when an aws-chunked body is being decoded.
    pub(crate) trailers: Option<TrailingHeaders>,
    /// Who asks; see [`super::access::Admitted`].
    pub(crate) identity: Arc<Identity>,
    /// As whom, and within which bounds.
    pub(crate) actor: Actor,
    /// The bucket, loaded; `None` for operations without one.
    pub(crate) namespace: Option<Arc<Namespace>>,
    /// Why they may.
    pub(crate) ground: Ground,
    /// Why they may read the source of a copy, once [`source`](Self::source) has been asked.
    pub(crate) source_ground: Ground,
    /// Who is at the other end of the connection.
    pub(crate) peer: Option<Peer>,
    /// Whether the connection sends files by itself.
    pub(crate) sends_files: bool,
    /// The URI as it was asked for.
    pub(crate) uri: http::Uri,
    /// `x-amz-request-id`.
    pub(crate) request_id: Arc<str>,
}

impl Call {
    /// The bucket.
    ///
    /// # Errors
    /// `NoSuchBucket` for an operation without one, which the router does not produce.
    pub(crate) fn namespace(&self) -> Result<Arc<Namespace>> {
        self.namespace.clone().ok_or_else(|| Code::NoSuchBucket.into())
    }

    /// The bucket that a copy reads from. Whether the sender may read the object, [`check_read`](Self::check_read) tells.
    ///
    /// # Errors
    /// `NoSuchBucket`, `AccessDenied`.
    pub(crate) async fn source(&mut self, bucket: &str, key: &str) -> Result<Arc<Namespace>> {
        let namespace = match self.namespace.as_ref().filter(|n| n.bucket.name == bucket) {
            Some(namespace) => namespace.clone(),
            None => self.parts.namespaces.get(bucket).await.map_err(|e| Failure::from(e).field("BucketName", bucket))?,
        };
        if let Some(expected) = self.header("x-amz-source-expected-bucket-owner")? {
            check_owner(&self.identity, &namespace, expected)?;
        }
        self.source_ground = match self.decide(&namespace, About { op: Op::GetObject, ..self.about(key) }).await? {
            Decision::Deny => return Err(Code::AccessDenied.into()),
            Decision::Allow => Ground::Policy,
            Decision::Silent => Ground::Lists,
        };
        Ok(namespace)
    }

    /// This request as policies see it, about this key.
    fn about<'c>(&'c self, key: &'c str) -> About<'c> {
        About::new(self.op, key, &self.headers, &self.query, self.peer)
    }

    async fn decide(&self, namespace: &Namespace, about: About<'_>) -> Result<Decision> {
        policy::decide(&self.parts, &self.actor, namespace, about).await
    }

    /// Whether the sender may do what only the body has told: to this key, in this version, with these tags.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) async fn check_policy(&self, key: &str, versioned: bool, tags: Option<&Tags>) -> Result<()> {
        let about = self.about(key);
        let about = About { versioned: versioned || about.versioned, tags, ..about };
        self.ground.settle(self.decide(&*self.namespace()?, about).await?)
    }

    /// Whether the sender may do this besides, to this key of the bucket.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) async fn check_also(&self, op: Op, key: &str) -> Result<()> {
        let about = About { op, ..self.about(key) };
        self.ground.settle(self.decide(&*self.namespace()?, about).await?)
    }

    /// Whether the policy of a bucket lets the sender read its objects. The owner's own alone: a policy gives away nothing that
    /// belongs to somebody else.
    fn reads_by_policy(&self) -> bool {
        let ground = if matches!(self.op, Op::CopyObject | Op::UploadPartCopy) { self.source_ground } else { self.ground };
        ground == Ground::Policy
    }

    /// Whether the sender may read an object with these attributes.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) fn check_read(&self, namespace: &Namespace, attributes: &Attributes) -> Result<()> {
        self.check_object(namespace, attributes, Permission::Read)
    }

    /// Whether the sender may do this to an object with these attributes.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) fn check_object(&self, namespace: &Namespace, attributes: &Attributes, wanted: Permission) -> Result<()> {
        if self.reads_by_policy() && acl::object_owner(namespace, attributes) == namespace.bucket.owner {
            return Ok(());
        }
        acl::check_object(namespace, &self.identity, attributes, wanted)
    }

    /// What the sender may be told of a failure to read an object. See [`acl::told`].
    pub(crate) async fn unread(&self, namespace: &Namespace, key: &str, failure: Failure) -> Failure {
        self.untouched(namespace, key, Permission::Read, failure).await
    }

    /// What the sender may be told of a failure to do this to an object. See [`acl::told`].
    pub(crate) async fn untouched(&self, namespace: &Namespace, key: &str, wanted: Permission, failure: Failure) -> Failure {
        let own = acl::may_use(&self.identity, namespace);
        if own && self.actor.is_account() {
            return failure;
        }
        // Boxed, so that the frequent case does not carry it around.
        Box::pin(async {
            if failure.code() == Code::NoSuchKey {
                // Whoever may list the name may know that it is not there.
                let about = About { op: Op::ListObjectsV2, key: "", prefix: Some(key), ..self.about(key) };
                match self.decide(namespace, about).await {
                    Ok(Decision::Allow) => return failure,
                    Ok(Decision::Silent) if own => return failure,
                    Ok(Decision::Silent) => {}
                    Ok(Decision::Deny) => return Code::AccessDenied.into(),
                    Err(failure) => return failure,
                }
            } else if self.reads_by_policy() {
                return failure;
            }
            acl::told(&self.parts, namespace, &self.identity, key, wanted, failure).await
        })
        .await
    }

    /// Whether the sender may go on with an upload: who began it may, who may do everything with the bucket, and whom the policy
    /// lets.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) fn check_upload(&self, namespace: &Namespace, upload: &UploadRecord) -> Result<()> {
        let all = self.ground == Ground::Policy || acl::may_use(&self.identity, namespace);
        if all || upload.initiator == self.identity.id { Ok(()) } else { Err(Code::AccessDenied.into()) }
    }

    /// As [`check_upload`](Self::check_upload), of an upload that is not at hand. One that does not exist is nobody's.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) async fn check_upload_of(&self, namespace: &Namespace, upload_id: &str) -> Result<()> {
        if self.ground == Ground::Policy || acl::may_use(&self.identity, namespace) {
            return Ok(());
        }
        match self.parts.uploads.get(namespace, &self.key, upload_id).await {
            Ok(upload) => self.check_upload(namespace, &upload),
            Err(error) if matches!(error.kind(), ErrorKind::NoSuchUpload) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of those whom an answer shows.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub(crate) async fn people<'i>(&self, ids: impl Iterator<Item = &'i str> + Send) -> Result<People> {
        People::find(&self.parts, &self.identity, ids).await
    }

    /// A header as text.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not text.
    pub(crate) fn header(&self, name: &'static str) -> Result<Option<&str>> {
        text(&self.headers, name)
    }

    /// The version that the query names.
    ///
    /// # Errors
    /// As [`version_in`](Self::version_in).
    pub(crate) fn version(&self) -> Result<Option<VersionId>> {
        let Some(text) = self.query.get("versionId") else { return Ok(None) };
        version(&self.key, text, || self.own_names()).map(Some)
    }

    /// Reads a version id of a key in a bucket.
    ///
    /// # Errors
    /// As [`version`].
    pub(crate) fn version_in(&self, namespace: &Namespace, key: &str, text: &str) -> Result<VersionId> {
        version(key, text, || self.names_versions(namespace))
    }

    /// Whether all names of versions in the bucket of the request are the gateway's own.
    pub(crate) fn own_names(&self) -> bool {
        self.namespace().ok().is_none_or(|namespace| self.names_versions(&namespace))
    }

    fn names_versions(&self, namespace: &Namespace) -> bool {
        self.parts.objects.versions_allow(namespace, |features| features.own_names)
    }

    /// Whether a retention in governance mode is overridden: asked for, and within the sender's rights. A list that lets somebody write
    /// gives no such right.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn bypasses_governance(&self, namespace: &Namespace) -> Result<bool> {
        let asked = self.header("x-amz-bypass-governance-retention")?.is_some_and(|v| v.eq_ignore_ascii_case("true"));
        Ok(asked && (self.ground == Ground::Policy || acl::may_use(&self.identity, namespace)))
    }

    /// The body with what was declared about it, to be adjusted before it is read by [`body::put_body`].
    ///
    /// # Errors
    /// As [`body::declared`].
    pub(crate) fn declared(&mut self) -> Result<Declared> {
        body::declared(&self.headers, self.trailers.take(), self.parts.settings.max_write_size_bytes)
    }

    /// The body to store.
    pub(crate) fn take_body(&mut self, declared: Declared) -> PutBody {
        body::put_body(std::mem::take(&mut self.body), Declared { lanes: self.parts.lanes.clone(), ..declared })
    }

    /// The body to store, encrypted as it is wished.
    ///
    /// # Errors
    /// As [`Encryption::seal`](crate::encryption::Encryption::seal).
    pub(crate) async fn take_sealed_body(&mut self, declared: Declared, wish: Option<&Wish>) -> Result<PutBody> {
        let body = self.take_body(declared);
        let Some(wish) = wish else { return Ok(body) };
        let at = At { bucket: &self.bucket, key: &self.key };
        // Boxed, so that what is not encrypted does not carry it around.
        Ok(Box::pin(self.parts.objects.encryption().seal(at, wish, body)).await?)
    }

    /// Reads the whole body as it is.
    ///
    /// # Errors
    /// As [`body::document`].
    pub(crate) async fn document(&mut self) -> Result<Vec<u8>> {
        let body = std::mem::take(&mut self.body);
        body::document(&self.headers, self.trailers.take(), body, self.parts.settings.max_xml_size_bytes).await
    }

    /// Reads the whole body where its checksum headers speak of something else than the body.
    ///
    /// # Errors
    /// As [`body::document`].
    pub(crate) async fn document_unverified(&mut self) -> Result<Vec<u8>> {
        let mut headers = self.headers.clone();
        for algorithm in crate::transfer::Algorithm::ALL {
            headers.remove(algorithm.header());
        }
        let body = std::mem::take(&mut self.body);
        body::document(&headers, self.trailers.take(), body, self.parts.settings.max_xml_size_bytes).await
    }

    /// Reads the body as a document with this root.
    ///
    /// # Errors
    /// `MissingRequestBodyError`, `MalformedXML`.
    pub(crate) async fn xml(&mut self, root: &'static str) -> Result<Element> {
        let bytes = self.document().await?;
        if bytes.is_empty() {
            return Err(Code::MissingRequestBodyError.into());
        }
        xml::read(bytes, root).await
    }

    /// The region of a bucket.
    pub(crate) fn region<'c>(&'c self, namespace: &'c Namespace) -> &'c str {
        match namespace.bucket.location.as_str() {
            "" => &self.parts.settings.region,
            location => location,
        }
    }
}

/// Reads a version id.
///
/// # Errors
/// `NoSuchVersion` for what looks like one of AWS's, `InvalidArgument` for what never was one. What only the remote of a mount can
/// know is not refused here, unless all names of the bucket are the gateway's own: that all its mounts are asked for, and only about such
/// names.
pub(crate) fn version(key: &str, text: &str, own_names: impl FnOnce() -> bool) -> Result<VersionId> {
    if text.is_empty() {
        return Err(Failure::argument("versionId", "", "Version id cannot be the empty string"));
    }
    let parsed = VersionId::parse(text).ok().filter(|id| !matches!(id, VersionId::Foreign(_)) || !own_names());
    parsed.ok_or_else(|| {
        let could_be = text.len() == 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if could_be {
            Failure::new(Code::NoSuchVersion).field("Key", key).field("VersionId", text)
        } else {
            Failure::argument("versionId", text, "Invalid version id specified")
        }
    })
}

/// Shows the name that a new version was given. One without a name is not told of, as on AWS.
pub(crate) fn set_new_version(headers: &mut HeaderMap, attributes: &Attributes) {
    if let Some(Ok(value)) = attributes.get(VERSION_ATTRIBUTE).map(HeaderValue::from_str) {
        headers.insert(HeaderName::from_static("x-amz-version-id"), value);
    }
}

/// Shows which version an answer is about, in a bucket that has versions.
pub(crate) fn set_version(headers: &mut HeaderMap, namespace: &Namespace, attributes: &Attributes) {
    if namespace.versioning() == Versioning::Off {
        return;
    }
    let value = match attributes.get(VERSION_ATTRIBUTE) {
        Some(version) => HeaderValue::from_str(version).ok(),
        None => Some(HeaderValue::from_static("null")),
    };
    if let Some(value) = value {
        headers.insert(HeaderName::from_static("x-amz-version-id"), value);
    }
}

/// Names the condition header in a failure of a conditional write.
pub(crate) fn with_condition(failure: Failure, when: &sluice_provider::PutWhen) -> Failure {
    match (failure.code(), conditions::name_of(when)) {
        (Code::PreconditionFailed | Code::ConditionalRequestConflict, Some(name)) => failure.field("Condition", name),
        _ => failure,
    }
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::OK {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// 200 with a document.
pub(crate) fn document(xml: Xml) -> Response<Body> {
    let mut response = Response::new(Body::from(xml.finish()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// Sets a header, if the value can be one.
pub(crate) fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// Sets the ETag, quoted.
pub(crate) fn set_etag(headers: &mut HeaderMap, etag: &str) {
    let mut quoted = String::with_capacity(etag.len() + 2);
    quoted.push('"');
    quoted.push_str(etag);
    quoted.push('"');
    if let Ok(value) = HeaderValue::try_from(quoted) {
        headers.insert(http::header::ETAG, value);
    }
}

/// `<Owner>` or another element of its shape.
pub(crate) fn write_owner(xml: &mut Xml, element: &str, (id, name): (&str, Option<&str>)) {
    xml.open(element);
    xml.text("ID", id);
    if let Some(name) = name {
        xml.text("DisplayName", name);
    }
    xml.close(element);
}
