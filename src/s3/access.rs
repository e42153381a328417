//! Who may do what. What the bucket's policy denies is denied to everybody. Root and the owner of a bucket may do everything else
//! with it; others, and those who do not sign, what the policy allows or a list grants.

use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};

use super::auth::to_framework;
use super::error::{Code, Failure, Result};
use super::front::Peer;
use super::headers::{overrides, text};
use super::operation::Op;
use super::policy::{self, About};
use super::query::Query;
use super::{Parts, acl, dates, front, signature_v2};
use crate::limits::Sender;
use crate::namespaces::Namespace;
use crate::tokens::acl::{ANONYMOUS, Permission};
use crate::tokens::policy::Decision;
use crate::tokens::{Actor, Credential, Identity};

/// Everybody who does not sign.
static NOBODY: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    Arc::new(Identity {
        id: ANONYMOUS.to_owned(),
        number: String::new(),
        name: String::new(),
        root: false,
        active: true,
        created: 0,
    })
});

/// Somebody who does not sign.
pub(crate) fn anybody() -> Arc<Identity> {
    NOBODY.clone()
}

/// Who asks, and the bucket they may use.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The sender; with the id [`ANONYMOUS`] when the request is not signed.
    pub(crate) identity: Arc<Identity>,
    /// As whom, and within which bounds.
    pub(crate) actor: Actor,
    /// The bucket; `None` for operations that need none.
    pub(crate) namespace: Option<Arc<Namespace>>,
    /// Why they may.
    pub(crate) ground: Ground,
}

/// What a request was admitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Ownership, or the bucket's list; of an object's list, the operation has yet to ask.
    Lists,
    /// The bucket's policy, whatever the lists say.
    Policy,
    /// Nothing so far: only the body tells what it is about, and the operation asks the policy then ([`Ground::settle`]).
    Nothing,
}

impl Ground {
    /// Comes to an end with what the policy says once everything is known.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) fn settle(self, decision: Decision) -> Result<()> {
        match decision {
            Decision::Allow => Ok(()),
            Decision::Silent if self != Self::Nothing => Ok(()),
            Decision::Silent | Decision::Deny => Err(Code::AccessDenied.into()),
        }
    }
}

/// A request as far as access is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The access key whose signature was verified; `None` for an anonymous request.
    pub(crate) access_key: Option<&'a str>,
    /// What it is, where somebody has looked it up for this request.
    pub(crate) credential: Option<&'a Arc<Credential>>,
    /// The operation; `None` for a form.
    pub(crate) op: Option<Op>,
    /// The bucket; empty for none.
    pub(crate) bucket: &'a str,
    /// The key; empty for none.
    pub(crate) key: &'a str,
    /// Who is at the other end of the connection.
    pub(crate) peer: Option<Peer>,
    /// The headers.
    pub(crate) headers: &'a HeaderMap,
    /// The query.
    pub(crate) query: &'a Query,
}

/// What somebody needs who neither owns the bucket nor is root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing helps.
    Ownership,
    /// This, by the bucket's list.
    OfBucket(Permission),
    /// A permission by the object's list, which the operation checks as soon as it knows the object: [`acl::check_object`].
    OfObject,
}

fn need(op: Option<Op>) -> Need {
    // A form stores an object.
    let Some(op) = op else { return Need::OfBucket(Permission::Write) };
    match op {
        Op::HeadBucket | Op::ListObjects | Op::ListObjectsV2 | Op::ListObjectVersions | Op::ListMultipartUploads => {
            Need::OfBucket(Permission::Read)
        }
        // Whose upload it is, the operations look at themselves: `Call::check_upload`.
        Op::AbortMultipartUpload
        | Op::CompleteMultipartUpload
        | Op::CloseObject
        | Op::CopyObject
        | Op::CreateMultipartUpload
        | Op::DeleteObject
        | Op::DeleteObjects
        | Op::ListParts
        | Op::PutObject
        | Op::RenameObject
        | Op::UploadPart
        | Op::UploadPartCopy => Need::OfBucket(Permission::Write),
        Op::GetBucketAcl => Need::OfBucket(Permission::ReadAcp),
        Op::PutBucketAcl => Need::OfBucket(Permission::WriteAcp),
        Op::FollowObject | Op::GetObject | Op::HeadObject | Op::GetObjectAttributes | Op::GetObjectAcl | Op::PutObjectAcl => {
            Need::OfObject
        }
        _ => Need::Ownership,
    }
}

/// Decides.
///
/// # Errors
/// `AccessDenied`, `InvalidToken`, `InvalidRequest`, `NoSuchBucket`, `SlowDown`.
pub(crate) async fn admit(parts: &Parts, asked: Asked<'_>) -> Result<Admitted> {
    let Asked { op, bucket, headers, query, .. } = asked;
    let actor = sender(parts, asked).await?;
    let identity = actor.account();
    let anonymous = identity.id == ANONYMOUS;
    if bucket.is_empty() || matches!(op, Some(Op::CreateBucket)) {
        let about = About::new(op.unwrap_or(Op::NotImplemented), "", headers, query, asked.peer);
        let denied = anonymous || policy::decide_alone(&actor, bucket, about) == Decision::Deny;
        let admitted = Admitted { identity, actor, namespace: None, ground: Ground::Lists };
        return if denied { Err(Code::AccessDenied.into()) } else { Ok(admitted) };
    }
    if anonymous {
        check_anonymous(op, query)?;
    }
    let namespace = parts.namespaces.get(bucket).await?;
    // Known to exist by now, so that names nobody has are not remembered.
    parts.rates.take_bucket(bucket).map_err(|_| Code::SlowDown)?;
    let ground = ground(parts, &actor, &identity, &namespace, asked).await?;
    if let Some(expected) = text(headers, "x-amz-expected-bucket-owner")? {
        check_owner(&identity, &namespace, expected)?;
    }
    Ok(Admitted { identity, actor, namespace: Some(namespace), ground })
}

/// Asks policy and lists.
async fn ground(parts: &Parts, actor: &Actor, identity: &Identity, namespace: &Namespace, asked: Asked<'_>) -> Result<Ground> {
    let Asked { op, key, headers, query, peer, .. } = asked;
    let decision = match op {
        // Whose key or tags are in the body.
        None | Some(Op::DeleteObjects | Op::PutObjectTagging) => None,
        Some(op) => Some(policy::decide(parts, actor, namespace, About::new(op, key, headers, query, peer)).await?),
    };
    match decision {
        Some(Decision::Deny) => return Err(refused(parts, op, namespace)),
        Some(Decision::Allow) => return Ok(Ground::Policy),
        Some(Decision::Silent) | None => {}
    }
    let listed = acl::may_use(identity, namespace)
        || match need(op) {
            Need::Ownership => false,
            Need::OfBucket(wanted) => acl::bucket_allows(namespace, identity, wanted),
            Need::OfObject => true,
        };
    if listed {
        Ok(Ground::Lists)
    } else if decision.is_none() && policy::is_there(namespace) {
        Ok(Ground::Nothing)
    } else {
        Err(refused(parts, op, namespace))
    }
}

/// Checks whose bucket the sender expects it to be.
///
/// # Errors
/// `AccessDenied`.
pub(crate) fn check_owner(identity: &Identity, namespace: &Namespace, expected: &str) -> Result<()> {
    let owner = &namespace.bucket.owner;
    if expected == owner || (identity.id == *owner && (expected == identity.name || expected == identity.number)) {
        Ok(())
    } else {
        Err(Code::AccessDenied.into())
    }
}

/// Who asks: the one whose signature was verified, or nobody in particular.
///
/// # Errors
/// `AccessDenied`, `InvalidAccessKeyId`, `InvalidToken`, `ExpiredToken`, `SlowDown`.
pub(crate) async fn sender(parts: &Parts, asked: Asked<'_>) -> Result<Actor> {
    let Asked { access_key, op, headers, query, peer, .. } = asked;
    // Only a key whose signature holds loses by what is sent in its name.
    let who = match (access_key, peer) {
        (Some(access_key), _) => Some(Sender::Key(access_key)),
        (None, peer) => peer.map(|peer| Sender::Address(peer.address)),
    };
    who.map_or(Ok(()), |who| parts.rates.take_user(who)).map_err(|_| Code::SlowDown)?;
    let Some(access_key) = access_key else {
        // A signature that was not even looked at is a failed one: nobody falls back to what everybody may do.
        let claims = claims_identity(headers, query);
        return if claims { Err(Code::AccessDenied.into()) } else { Ok(Actor::unbound(NOBODY.clone())) };
    };
    if op.is_some() && !signature_v2::is_used(headers, query) && !host_is_signed(headers, query) {
        return Err(Failure::because(Code::AccessDenied, "There were headers present in the request which were not signed")
            .field("HeadersNotSigned", "host"));
    }
    let credential = match asked.credential {
        Some(credential) => Arc::clone(credential),
        None => parts.tokens.credential(access_key).await?.ok_or(Code::InvalidAccessKeyId)?,
    };
    let token = session_token(headers, query)?;
    // The token of a form is one of its fields, which `form` looks at.
    check_token(&credential, token, op.is_none())?;
    if presigned(op, query).is_some_and(|signed| !credential.admits_presigned(|| signed.at())) {
        return Err(Failure::because(Code::AccessDenied, "Presigned requests of this time were revoked"));
    }
    parts.tokens.note_use(&credential);
    // A user or role that is gone has no keys.
    Ok(parts.tokens.actor(credential).await?.ok_or(Code::InvalidAccessKeyId)?)
}

/// The session token of a request.
///
/// # Errors
/// `InvalidArgument` when it is no text.
pub(crate) fn session_token<'a>(headers: &'a HeaderMap, query: &'a Query) -> Result<Option<&'a str>> {
    let in_header = text(headers, "x-amz-security-token")?;
    Ok(in_header.or_else(|| query.named_any_case("x-amz-security-token")).filter(|token| !token.is_empty()))
}

/// Checks the session token of a request. A temporary key without its token is no key.
///
/// # Errors
/// `InvalidToken`, `ExpiredToken`, `InvalidAccessKeyId`.
pub(crate) fn check_token(credential: &Credential, token: Option<&str>, later: bool) -> Result<()> {
    match token {
        None if credential.is_temporary() && !later => return Err(Code::InvalidAccessKeyId.into()),
        Some(token) if !credential.has_token(token) => return Err(Code::InvalidToken.into()),
        None | Some(_) => {}
    }
    match credential.has_ended() {
        true if credential.is_temporary() => Err(Code::ExpiredToken.into()),
        true => Err(Code::InvalidAccessKeyId.into()),
        false => Ok(()),
    }
}

/// A request that was signed before it was sent.
struct Presigned<'q> {
    /// What it says of when, where everybody sees it: not with Signature Version 2, and not in a form.
    date: Option<&'q str>,
}

impl Presigned<'_> {
    /// When, in milliseconds since the epoch.
    fn at(&self) -> Option<i64> {
        self.date.and_then(dates::parse_basic)
    }
}

fn presigned(op: Option<Op>, query: &Query) -> Option<Presigned<'_>> {
    if query.has("X-Amz-Signature") {
        return Some(Presigned { date: query.get("X-Amz-Date") });
    }
    (op.is_none() || query.has("Signature")).then_some(Presigned { date: None })
}

/// Whether a request carries anything that belongs to a signature.
fn claims_identity(headers: &HeaderMap, query: &Query) -> bool {
    const PARAMETERS: [&str; 6] =
        ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature"];
    headers.contains_key(http::header::AUTHORIZATION)
        || headers.contains_key("x-amz-security-token")
        || PARAMETERS.iter().any(|name| query.has(name))
}

/// What AWS lets nobody do without a signature, whatever a list says.
fn check_anonymous(op: Option<Op>, query: &Query) -> Result<()> {
    if overrides(query) {
        return Err(Failure::request("Request specific response headers cannot be used for anonymous GET requests."));
    }
    let what = match op {
        Some(Op::CopyObject | Op::UploadPartCopy) => "copy objects",
        Some(Op::CreateMultipartUpload) => "initiate multipart uploads",
        _ => return Ok(()),
    };
    Err(Failure::because(Code::AccessDenied, format!("Anonymous users cannot {what}.  Please authenticate.")))
}

fn refused(parts: &Parts, op: Option<Op>, namespace: &Namespace) -> Failure {
    let denied = Failure::new(Code::AccessDenied);
    let region = if namespace.bucket.location.is_empty() { &parts.settings.region } else { &namespace.bucket.location };
    match (op, HeaderValue::from_str(region)) {
        // This is how clients find out a bucket's region before they can sign for it.
        (Some(Op::HeadBucket), Ok(region)) => denied.header(HeaderName::from_static("x-amz-bucket-region"), region),
        _ => denied,
    }
}

/// Whether `host` is among the signed headers. Without it a signed request can be replayed against another bucket of a
/// virtual-host domain, since SigV4 signs only the path.
fn host_is_signed(headers: &HeaderMap, query: &Query) -> bool {
    let has_host = |list: &str| list.split(';').any(|h| h.trim().eq_ignore_ascii_case("host"));
    if let Some(list) = query.get("X-Amz-SignedHeaders") {
        return has_host(list);
    }
    let Some(authorization) = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
    authorization
        .split_once("SignedHeaders=")
        .is_some_and(|(_, rest)| has_host(rest.split([',', ' ']).next().unwrap_or_default()))
}

/// The access check of forms, which the framework parses itself.
pub(crate) struct Access(Arc<Parts>);

impl Access {
    /// Over the layers beneath.
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let query = query_of(cx.uri()).map_err(|f| to_framework(&f))?;
        let bucket = cx.s3_path().get_bucket_name().unwrap_or_default().to_owned();
        // Only forms come this way: the route takes everything else.
        let peer = front::peer(cx.extensions_mut());
        let access_key = cx.credentials().map(|credentials| credentials.access_key.clone());
        let asked = Asked {
            access_key: access_key.as_deref(),
            credential: None,
            op: None,
            bucket: &bucket,
            key: "",
            peer,
            headers: cx.headers(),
            query: &query,
        };
        let admitted = admit(&self.0, asked).await.map_err(|f| to_framework(&f))?;
        cx.extensions_mut().insert(admitted);
        Ok(())
    }
}

fn query_of(uri: &Uri) -> Result<Query> {
    Query::parse(uri.query())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_host_must_be_signed() {
        let signed = |authorization: &'static str, query: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static(authorization));
            host_is_signed(&headers, &Query::parse(Some(query)).unwrap())
        };
        assert!(signed("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=s", ""));
        assert!(signed("AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=x-amz-date;host,Signature=s", ""));
        assert!(!signed("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=x-amz-date;x-host, Signature=s", ""));
        assert!(signed("", "X-Amz-SignedHeaders=content-type%3Bhost"));
        assert!(!signed("", "X-Amz-SignedHeaders=content-type"));
    }

    #[test]
    fn when_it_was_presigned() {
        let at = |op, query: &str| presigned(op, &Query::parse(Some(query)).unwrap()).map(|signed| signed.at());
        assert_eq!(at(Some(Op::GetObject), "X-Amz-Signature=s&X-Amz-Date=20260101T000001Z"), Some(Some(1_767_225_601_000)));
        assert_eq!(at(Some(Op::GetObject), "X-Amz-Signature=s&X-Amz-Date=soon"), Some(None));
        assert_eq!(at(Some(Op::GetObject), "AWSAccessKeyId=a&Expires=1&Signature=s"), Some(None));
        assert_eq!(at(Some(Op::GetObject), "list-type=2"), None);
        assert_eq!(at(None, ""), Some(None));
    }

    #[test]
    fn half_a_signature_is_not_none() {
        let claims = |header: Option<&'static str>, query: &str| {
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                headers.insert(name, HeaderValue::from_static("x"));
            }
            claims_identity(&headers, &Query::parse(Some(query)).unwrap())
        };
        assert!(!claims(None, "list-type=2") && !claims(Some("x-amz-date"), ""));
        assert!(claims(Some("authorization"), "") && claims(Some("x-amz-security-token"), ""));
        for query in ["X-Amz-Credential=a", "X-Amz-Signature=", "AWSAccessKeyId=a&Expires=1", "Signature=s"] {
            assert!(claims(None, query), "{query}");
        }
    }

    #[test]
    fn lists_open_what_aws_says_they_open() {
        assert_eq!(need(None), Need::OfBucket(Permission::Write));
        assert_eq!(need(Some(Op::HeadBucket)), Need::OfBucket(Permission::Read));
        assert_eq!(need(Some(Op::DeleteObjects)), Need::OfBucket(Permission::Write));
        for op in [Op::DeleteBucket, Op::GetBucketLocation, Op::PutObjectTagging, Op::GetObjectTagging, Op::PutBucketTagging] {
            assert_eq!(need(Some(op)), Need::Ownership, "{op:?}");
        }
    }
}
