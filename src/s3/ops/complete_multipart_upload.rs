//! CompleteMultipartUpload.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::Response;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::Body;
use sluice_provider::{Attributes, ObjectInfo, PartNumber};

use crate::s3::body::{checksum_header, raw};
use crate::s3::call::{Answer, Call, document, set_new_version, with_condition};
use crate::s3::error::{Code, Failure, Result, Scene};
use crate::s3::xml::{Element, Xml};
use crate::s3::{checksums, conditions, encryption, lock};
use crate::telemetry::host_id;
use crate::transfer::Algorithm;
use crate::uploads::{CompleteRequest, NamedPart};

/// How long a client waits for an ordinary answer before it is kept alive with white space. SDKs give up after 60 s at the earliest.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a kept-alive client hears from us.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(crate) async fn call(call: &mut Call) -> Answer {
    let upload = call.query.get("uploadId").unwrap_or_default().to_owned();
    let namespace = call.namespace()?;
    call.check_upload_of(&namespace, &upload).await?;
    let mut request = read(call).await?;
    request.defaults = lock::default_attributes(&namespace);
    let (uploads, key) = (call.parts.uploads.clone(), call.key.clone());
    let mut work: BoxFuture<'static, Result<ObjectInfo>> = Box::pin(async move {
        let when = request.when.clone();
        uploads.complete(&namespace, &key, &upload, request).await.map_err(|e| with_condition(e.into(), &when))
    });
    match tokio::time::timeout(PATIENCE, &mut work).await {
        Ok(done) => {
            let mut xml = Xml::document();
            let info = done?;
            Told::new(call).write(&mut xml, &info);
            let mut response = document(xml);
            set_new_version(response.headers_mut(), &info.attributes);
            encryption::to_headers(&info.attributes, None, response.headers_mut())?;
            Ok(response)
        }
        Err(_) => Ok(kept_alive(work, Told::new(call), PATIENCE.min(HEARTBEAT))),
    }
}

async fn read(call: &mut Call) -> Result<CompleteRequest> {
    let when = conditions::write(&call.headers)?;
    let checksum_type = checksums::type_named(call.header("x-amz-checksum-type")?)?;
    let checksum = whole_checksum(call)?;
    let size = match call.header("x-amz-mp-object-size")? {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Failure::request("Value for x-amz-mp-object-size header is invalid."))?),
    };
    let body = call.document_unverified().await?;
    let root = crate::s3::xml::read(body, "CompleteMultipartUpload").await?;
    let parts = root.all("Part").map(part).collect::<Result<Vec<_>>>()?;
    if parts.is_empty() || parts.len() != root.children.len() || parts.len() > usize::from(PartNumber::MAX) {
        return Err(Code::MalformedXML.into());
    }
    Ok(CompleteRequest { parts, when, checksum, checksum_type, size, defaults: Attributes::new() })
}

/// The checksum headers of a Complete speak of the object, not of the document; a composite one ends in `-N`.
fn whole_checksum(call: &Call) -> Result<Option<(Algorithm, String)>> {
    let mut plain = call.headers.clone();
    let mut composite = None;
    for algorithm in Algorithm::ALL {
        let Some(text) = call.header(algorithm.header())? else { continue };
        if let Some((value, count)) = text.split_once('-') {
            raw(algorithm, value)?;
            if count.parse::<u16>().is_err() || composite.is_some() {
                return Err(Failure::request(format!("Value for {} header is invalid.", algorithm.header())));
            }
            composite = Some((algorithm, text.to_owned()));
            plain.remove(algorithm.header());
        }
    }
    match (checksum_header(&plain)?, composite) {
        (None, composite) => Ok(composite),
        (Some((algorithm, _)), None) => Ok(call.header(algorithm.header())?.map(|text| (algorithm, text.to_owned()))),
        (Some(_), Some(_)) => {
            Err(Failure::request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."))
        }
    }
}

fn part(element: &Element) -> Result<NamedPart> {
    let number = element.text_of("PartNumber").and_then(|n| n.trim().parse::<i64>().ok()).ok_or(Code::MalformedXML)?;
    let number = PartNumber::new(number)
        .ok_or_else(|| Failure::argument("PartNumber", number.to_string(), "PartNumber must be >= 1 and <= 10000"))?;
    let etag = element.text_of("ETag").ok_or(Code::MalformedXML)?;
    let mut named = NamedPart { number, etag: conditions::unquoted(etag).to_owned(), checksums: Vec::new() };
    for algorithm in Algorithm::ALL {
        if let Some(value) = element.text_of(checksums::element(algorithm)).filter(|v| !v.is_empty()) {
            named.checksums.push((algorithm, raw(algorithm, value)?));
        }
    }
    Ok(named)
}

/// What the answer says besides the object.
struct Told {
    location: String,
    bucket: String,
    key: String,
    resource: String,
    request_id: String,
}

impl Told {
    fn new(call: &Call) -> Self {
        let host = call.headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let location = format!("http://{host}{}", call.uri.path());
        Self {
            location,
            bucket: call.bucket.clone(),
            key: call.key.clone(),
            resource: call.uri.path().to_owned(),
            request_id: call.request_id.to_string(),
        }
    }

    fn write(&self, xml: &mut Xml, info: &ObjectInfo) {
        xml.root("CompleteMultipartUploadResult");
        xml.text("Location", &self.location);
        xml.text("Bucket", &self.bucket);
        xml.text("Key", &self.key);
        xml.etag(info.etag.as_str());
        checksums::to_xml(&info.attributes, xml);
        xml.close("CompleteMultipartUploadResult");
    }

    fn write_failure(&self, xml: &mut Xml, failure: &Failure) {
        if let Some(cause) = failure.cause().filter(|_| failure.code().status().is_server_error()) {
            tracing::error!(request_id = self.request_id, operation = "CompleteMultipartUpload", error = %cause, "request failed");
        }
        let scene = Scene {
            resource: &self.resource,
            bucket: &self.bucket,
            key: &self.key,
            request_id: &self.request_id,
            host_id: host_id(),
        };
        failure.write(xml, scene);
    }
}

/// A 200 whose document comes when it is known: white space until then, and then the result or, as AWS does it, an error.
fn kept_alive(work: BoxFuture<'static, Result<ObjectInfo>>, told: Told, heartbeat: Duration) -> Response<Body> {
    enum State {
        Begin(BoxFuture<'static, Result<ObjectInfo>>, Told),
        Waiting(BoxFuture<'static, Result<ObjectInfo>>, Told),
        Done,
    }
    let frames = futures::stream::unfold(State::Begin(work, told), move |state| async move {
        let (mut work, told) = match state {
            State::Begin(work, told) => return Some((Xml::document().finish(), State::Waiting(work, told))),
            State::Waiting(work, told) => (work, told),
            State::Done => return None,
        };
        match tokio::time::timeout(heartbeat, &mut work).await {
            Err(_) => Some((" ".to_owned(), State::Waiting(work, told))),
            Ok(done) => {
                let mut xml = Xml::without_declaration();
                match done {
                    Ok(info) => told.write(&mut xml, &info),
                    Err(failure) => told.write_failure(&mut xml, &failure),
                }
                Some((xml.finish(), State::Done))
            }
        }
    });
    let frames = frames.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))).boxed();
    let mut response = Response::new(Body::http_body_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http_body_util::BodyExt;

    fn told() -> Told {
        Told {
            location: "http://h/b/k".into(),
            bucket: "b".into(),
            key: "k".into(),
            resource: "/b/k".into(),
            request_id: "R".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_complete_is_kept_alive_and_then_told() {
        let work = Box::pin(async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Err(Failure::new(Code::InvalidPart))
        });
        let response = kept_alive(work, told(), Duration::from_secs(10));
        assert_eq!(response.status(), 200);
        let bytes = BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n  <Error><Code>InvalidPart</Code>"), "{text}");
    }

    #[test]
    fn parts_are_read_with_their_checksums() {
        let xml = |x: &str| part(&crate::s3::xml::parse(x.as_bytes(), "Part").unwrap());
        let p = xml("<Part><PartNumber>3</PartNumber><ETag>&quot;e&quot;</ETag><ChecksumCRC32>AAAAAQ==</ChecksumCRC32></Part>")
            .unwrap();
        assert_eq!((p.number.get(), p.etag.as_str(), p.checksums), (3, "e", vec![(Algorithm::Crc32, vec![0, 0, 0, 1])]));
        assert_eq!(xml("<Part><PartNumber>0</PartNumber><ETag>e</ETag></Part>").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(xml("<Part><ETag>e</ETag></Part>").unwrap_err().code(), Code::MalformedXML);
    }
}
