//! A request as its signature of Version 4 sees it
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, Request, Uri};
use percent_encoding::percent_decode_str;
use s3s_sigv4::{AmzDate, AuthorizationV4, Payload, PresignedUrlV4};

use crate::s3::query::Query;

/// The longest life of a presigned URL in seconds.
pub(super) const MAX_EXPIRES: u32 = 604_800;

/// The head of a request, kept while the framework has the request.
#[derive(Clone, Debug)]
pub(in crate::s3) struct Head {
    pub(in crate::s3) method: Method,
    pub(in crate::s3) uri: Uri,
    pub(in crate::s3) headers: HeaderMap,
}

/// What a request says of its signature.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) access_key: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) date: AmzDate,
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: [u8; 32],
    pub(super) presigned: bool,
}

/// What is signed.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) method: String,
    pub(super) path: Path,
    /// Decoded, sorted.
    pub(super) query: Vec<(String, String)>,
    /// Those that are signed, in their order.
    pub(super) headers: Vec<(String, String)>,
    /// The last line; of a presigned request it is always the same.
    pub(super) payload: String,
    pub(super) presigned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// To be encoded as the specification says.
    Decoded(String),
    /// As it is.
    Raw(String),
}

impl Head {
    /// The head of a request that is signed in some way.
    pub(in crate::s3) fn of<B>(request: &Request<B>) -> Option<Self> {
        let (uri, headers) = (request.uri(), request.headers());
        Self::is_signed(uri, headers).then(|| Self {
            method: request.method().clone(),
            uri: uri.clone(),
            headers: headers.clone(),
        })
    }

    pub(super) fn is_signed(uri: &Uri, headers: &HeaderMap) -> bool {
        headers.contains_key(AUTHORIZATION) || uri.query().is_some_and(|query| query.contains("Signature="))
    }

    pub(super) fn host(&self) -> Option<&str> {
        let named = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        named.or_else(|| self.uri.authority().map(http::uri::Authority::as_str))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The signature of Version 4 that the request carries, and what it signs; `None` when it carries none that can be read.
    pub(super) fn read(&self) -> Option<(Given, View)> {
        let query = Query::parse(self.uri.query()).ok()?.sorted();
        let path = Path::Decoded(percent_decode_str(self.uri.path()).decode_utf8().ok()?.into_owned());
        let signature = |text: &str| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
        };
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let given = if query.iter().any(|(name, _)| name == "X-Amz-Signature") {
            let url = PresignedUrlV4::parse(&query, MAX_EXPIRES).ok()?;
            Given {
                access_key: url.credential.access_key_id.to_owned(),
                region: url.credential.aws_region.to_owned(),
                service: url.credential.aws_service.to_owned(),
                date: url.amz_date.clone(),
                signed_headers: owned(&url.signed_headers),
                signature: signature(url.signature)?,
                presigned: true,
            }
        } else {
            let header = AuthorizationV4::parse(self.header(AUTHORIZATION.as_str())?).ok()?;
            Given {
                access_key: header.credential.access_key_id.to_owned(),
                region: header.credential.aws_region.to_owned(),
                service: header.credential.aws_service.to_owned(),
                date: AmzDate::parse(self.header("x-amz-date")?).ok()?,
                signed_headers: owned(&header.signed_headers),
                signature: signature(header.signature)?,
                presigned: false,
            }
        };
        let view = View {
            method: self.method.as_str().to_owned(),
            path,
            query,
            headers: self.signed(&given.signed_headers)?,
            payload: if given.presigned { "UNSIGNED-PAYLOAD" } else { self.header("x-amz-content-sha256")? }.to_owned(),
            presigned: given.presigned,
        };
        Some((given, view))
    }

    /// The headers of these names.
    pub(super) fn signed(&self, names: &[String]) -> Option<Vec<(String, String)>> {
        let mut headers = Vec::with_capacity(names.len());
        for name in names {
            let before = headers.len();
            for value in self.headers.get_all(name.as_str()) {
                headers.push((name.clone(), std::str::from_utf8(value.as_bytes()).ok()?.to_owned()));
            }
            if headers.len() == before {
                headers.push((name.clone(), self.host().filter(|_| name == "host")?.to_owned()));
            }
        }
        Some(headers)
    }
}

impl View {
    /// The canonical request.
    pub(super) fn canonical(&self) -> String {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (method, query) = (self.method.as_str(), self.query.as_slice());
        let payload = Payload::SingleChunk(&self.payload);
        match (&self.path, self.presigned) {
            (Path::Decoded(path), false) => s3s_sigv4::create_canonical_request(method, path, query, &headers, payload),
            (Path::Raw(path), false) => {
                s3s_sigv4::create_canonical_request_with_raw_uri_path(method, path, query, &headers, payload)
            }
            (Path::Decoded(path), true) => s3s_sigv4::create_presigned_canonical_request(method, path, query, &headers),
            (Path::Raw(path), true) => {
                s3s_sigv4::create_presigned_canonical_request_with_raw_uri_path(method, path, query, &headers)
            }
        }
    }

    /// As if this header had had this value.
    pub(super) fn with_header(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        for (known, text) in &mut other.headers {
            if known == name {
                value.clone_into(text);
            }
        }
        other
    }

    /// As if it had said this of its body.
    pub(super) fn with_payload(&self, payload: &str) -> Self {
        Self { payload: payload.to_owned(), ..self.with_header("x-amz-content-sha256", payload) }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
