//! A gateway in this process and a client that can send anything: both on loopback, over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use s3s_sigv4::{AmzDate, Payload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::encryption;
use crate::handles;
use crate::meta::{MetaStore, SqliteStore};
use crate::namespaces::{DefaultMount, Namespaces};
use crate::objects::Objects;
use crate::s3::query::Query;
use crate::s3::{Front, Parts, Peer, Settings};
use crate::telemetry::RequestId;
use crate::tokens::{Keyring, MasterKeys, Secret, Tokens};
use crate::transfer::{Algorithm, Hasher};
use crate::uploads::Uploads;

pub(super) const ROOT: (&str, &str) = ("ROOTKEY", "root-secret-key");
pub(super) const ANN: (&str, &str) = ("ANNSKEY", "anns-secret-key");
pub(super) const BOB: (&str, &str) = ("BOBSKEY", "bobs-secret-key");
const REGION: &str = "us-east-1";

/// A running gateway.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) parts: Parts,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::with(Settings { domains: vec!["s3.test".to_owned()], ..Settings::default() }).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::with_rates(settings, crate::limits::Settings::default()).await
    }

    pub(super) async fn with_rates(settings: Settings, rates: crate::limits::Settings) -> Self {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let tokens = Tokens::open(store.clone(), [7; 32]).await.unwrap();
        for (name, root, (key, secret)) in [("root", true, ROOT), ("ann", false, ANN), ("bob", false, BOB)] {
            let secret = Secret::new(secret.to_owned());
            tokens.create_key(name, root, Some(key.to_owned()), Some(secret)).await.unwrap();
        }
        let mount = DefaultMount { provider: "memory".to_owned(), settings: std::collections::BTreeMap::new() };
        let master = Keyring::new(&MasterKeys::from([7; 32]), None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keyring = directory.path().join("keyring");
        std::fs::write(&keyring, format!("one {}\ntwo {}\n", "31".repeat(32), "32".repeat(32))).unwrap();
        std::fs::set_permissions(&keyring, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let keys = encryption::Settings { keyring_file: keyring.to_str().unwrap().to_owned(), ..Default::default() };
        let encryption = Arc::new(encryption::Encryption::new(&keys, Some(master), None).unwrap());
        let uploads = Arc::new(Uploads::new(store.clone()).with_encryption(encryption));
        let namespaces = Arc::new(Namespaces::new(store, mount));
        Self::of(Parts {
            namespaces,
            objects: Arc::new(Objects::new(uploads.clone(), handles::Registry::new(handles::Settings::default()))),
            uploads,
            tokens: Arc::new(tokens),
            lanes: crate::transfer::Settings::default().lanes(),
            rates: crate::limits::Rates::new(&rates),
            drain: crate::runtime::Drain::new(),
            settings,
        })
        .await
    }

    /// Another one over the same buckets and keys.
    pub(super) async fn beside(&self, settings: Settings) -> Self {
        Self::of(Parts { settings, ..self.parts.clone() }).await
    }

    async fn of(parts: Parts) -> Self {
        let (front, namespaces) = (Front::new(parts.clone()), Arc::clone(&parts.namespaces));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let front = front.clone();
                let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                    let front = front.clone();
                    async move {
                        request.extensions_mut().insert(RequestId(Arc::from("TESTREQUEST")));
                        request.extensions_mut().insert(Peer { address: peer.ip(), secure: false });
                        Ok::<_, std::convert::Infallible>(front.call(request).await)
                    }
                });
                tokio::spawn(async move {
                    let mut server = hyper::server::conn::http1::Builder::new();
                    let _ = server.keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, namespaces, parts }
    }

    /// A gateway with Ann's bucket `bucket`.
    pub(super) async fn with_bucket() -> Self {
        let gateway = Self::start().await;
        assert_eq!(gateway.ask("PUT", "/bucket").send().await.status, 200);
        gateway
    }

    /// A request, signed by Ann unless it is changed.
    pub(super) fn ask(&self, method: &str, target: &str) -> Ask {
        Ask {
            address: self.address,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("host".to_owned(), self.address.to_string())],
            late: Vec::new(),
            body: Vec::new(),
            key: Some(ANN),
            payload: None,
            service: "s3",
            signs_host: true,
            length: true,
        }
    }

    pub(super) async fn put(&self, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.ask("PUT", target).body(body).send().await
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).send().await
    }
}

/// A request to be.
#[derive(Clone)]
pub(super) struct Ask {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    late: Vec<(String, String)>,
    body: Vec<u8>,
    key: Option<(&'static str, &'static str)>,
    payload: Option<String>,
    service: &'static str,
    signs_host: bool,
    length: bool,
}

/// Sends a request, after which the connection ends, and reads the answer.
pub(super) async fn exchange(address: SocketAddr, wire: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(wire).await.unwrap();
    let mut got = Vec::new();
    // A connection that is reset after the answer has still answered.
    let answered = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut got)).await;
    assert!(answered.is_ok(), "no answer to {}", String::from_utf8_lossy(wire));
    Answer::read(&got)
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hex::encode(hasher.finish())
}

fn now() -> AmzDate {
    let now = time::OffsetDateTime::now_utc();
    at(now)
}

fn at(t: time::OffsetDateTime) -> AmzDate {
    let text =
        format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute(), t.second());
    AmzDate::parse(&text).unwrap()
}

impl Ask {
    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
    /// A header, signed.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" {
            self.headers.retain(|(n, _)| n != "host");
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    /// A header that is not signed.
    pub(super) fn late(mut self, name: &str, value: &str) -> Self {
        self.late.push((name.to_owned(), value.to_owned()));
        self
    }
    pub(super) fn by(mut self, key: (&'static str, &'static str)) -> Self {
        self.key = Some(key);
        self
    }
    pub(super) fn anonymous(mut self) -> Self {
        self.key = None;
        self
    }
    /// What `x-amz-content-sha256` says.
    pub(super) fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }
    /// Signs for another service.
    pub(super) fn service(mut self, service: &'static str) -> Self {
        self.service = service;
        self
    }
    pub(super) fn without_host_signature(mut self) -> Self {
        self.signs_host = false;
        self
    }
    pub(super) fn without_length(mut self) -> Self {
        self.length = false;
        self
    }

    fn path(&self) -> String {
        percent_decode_str(self.target.split('?').next().unwrap()).decode_utf8().unwrap().into_owned()
    }

    fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map(|(_, q)| q).unwrap_or_default();
        let decode = |t: &str| percent_decode_str(&t.replace('+', " ")).decode_utf8().unwrap().into_owned();
        let mut pairs: Vec<_> = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .map(|(n, v)| (decode(n), decode(v)))
            .collect();
        pairs.sort();
        assert!(Query::parse(Some(query)).is_ok());
        pairs
    }

    /// Signs; answers date and signature for chunks.
    fn sign(&mut self) -> Option<(AmzDate, String)> {
        let (key, secret) = self.key?;
        let date = now();
        let hash = sha256_hex(&self.body);
        let says = self.payload.clone().unwrap_or_else(|| hash.clone());
        self.headers.push(("x-amz-date".into(), date.fmt_iso8601().to_string()));
        self.headers.push(("x-amz-content-sha256".into(), says.clone()));
        let mut signed: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if !self.signs_host {
            signed.retain(|(n, _)| *n != "host");
        }
        signed.sort();
        let payload = match says.as_str() {
            "UNSIGNED-PAYLOAD" => Payload::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Payload::MultipleChunks,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Payload::MultipleChunksWithTrailer,
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Payload::UnsignedMultipleChunksWithTrailer,
            hash => Payload::SingleChunk(hash),
        };
        let canonical = s3s_sigv4::create_canonical_request(&self.method, &self.path(), &self.query(), &signed, payload);
        let service = self.service;
        let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, REGION, service);
        let signature = s3s_sigv4::calculate_signature(&to_sign, secret, &date, REGION, service);
        let mut names: Vec<&str> = signed.iter().map(|(n, _)| *n).collect();
        names.dedup();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/{}/{REGION}/{service}/aws4_request, SignedHeaders={}, Signature={signature}",
            date.fmt_date(),
            names.join(";")
        );
        self.headers.push(("authorization".into(), authorization));
        Some((date, signature))
    }

    /// Moves the signature into the query.
    pub(super) fn presigned(mut self, expires: i64, made: time::OffsetDateTime) -> Self {
        let (key, secret) = self.key.take().unwrap();
        let date = at(made);
        let mut query = self.target.split_once('?').map(|(_, q)| format!("{q}&")).unwrap_or_default();
        let names: Vec<_> = self.headers.iter().map(|(n, _)| n.as_str()).collect();
        query.push_str(&format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F{}%2F{REGION}%2Fs3%2Faws4_request&X-Amz-Date={}\
             &X-Amz-Expires={expires}&X-Amz-SignedHeaders={}",
            date.fmt_date(),
            date.fmt_iso8601(),
            names.join("%3B")
        ));
        let path = self.target.split('?').next().unwrap().to_owned();
        self.target = format!("{path}?{query}");
        let signed: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let canonical = s3s_sigv4::create_presigned_canonical_request(&self.method, &self.path(), &self.query(), &signed);
        let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, REGION, "s3");
        let signature = s3s_sigv4::calculate_signature(&to_sign, secret, &date, REGION, "s3");
        self.target.push_str(&format!("&X-Amz-Signature={signature}"));
        self
    }

    /// The body as signed chunks, with the terminal one or without.
    pub(super) async fn send_chunked(mut self, chunk: usize, terminal: bool) -> Answer {
        let data = std::mem::take(&mut self.body);
        self.headers.push(("x-amz-decoded-content-length".into(), data.len().to_string()));
        self.payload = Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD".into());
        let secret = self.key.unwrap().1;
        let (date, mut previous) = self.sign().unwrap();
        let key = s3s_sigv4::derive_signing_key(secret, &date, REGION, "s3");
        let mut framed = Vec::new();
        let mut chunks: Vec<&[u8]> = data.chunks(chunk).collect();
        if terminal {
            chunks.push(b"");
        }
        for chunk in chunks {
            let parts: &[&[u8]] = if chunk.is_empty() { &[] } else { &[chunk] };
            let to_sign = s3s_sigv4::create_chunk_string_to_sign(&date, REGION, "s3", &previous, parts);
            previous = hex::encode(s3s_sigv4::calculate_signature_with_key(&to_sign, &key));
            framed.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        self.body = framed;
        self.key = None;
        self.send().await
    }

    /// The body as one unsigned chunk with these trailer lines.
    pub(super) async fn send_with_trailer(mut self, declared: &str, trailer: &str) -> Answer {
        let data = std::mem::take(&mut self.body);
        let mut framed = Vec::new();
        if !data.is_empty() {
            framed.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            framed.extend_from_slice(&data);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        self.body = framed;
        self.header("x-amz-decoded-content-length", &data.len().to_string())
            .header("x-amz-trailer", declared)
            .header("content-encoding", "aws-chunked")
            .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .send()
            .await
    }

    pub(super) async fn send(self) -> Answer {
        let address = self.address;
        exchange(address, &self.wire()).await
    }

    /// What goes over the wire, signed.
    pub(super) fn wire(mut self) -> Vec<u8> {
        self.sign();
        let mut wire = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", self.method, self.target).into_bytes();
        for (name, value) in self.headers.iter().chain(&self.late) {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.length && (!self.body.is_empty() || self.method == "PUT" || self.method == "POST") {
            wire.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        wire
    }

    /// Sends only the first bytes of the body, and hangs up.
    pub(super) async fn send_cut(mut self, bytes: usize) {
        self.sign();
        let mut wire = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        wire.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        wire.extend_from_slice(&self.body[..bytes]);
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&wire).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let split = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP answer");
        let head = std::str::from_utf8(&bytes[..split]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.trim().parse().unwrap());
        }
        let mut body = bytes[split + 4..].to_vec();
        if headers.get("transfer-encoding").is_some() {
            body = unchunked(&body);
        }
        Self { status, headers, body }
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The text of the first element of a name.
    pub(super) fn element(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text().split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    }

    /// The texts of all elements of a name.
    pub(super) fn elements(&self, name: &str) -> Vec<&str> {
        self.text()
            .split(&format!("<{name}>"))
            .skip(1)
            .filter_map(|r| r.split_once(&format!("</{name}>")))
            .map(|(t, _)| t)
            .collect()
    }

    pub(super) fn code(&self) -> &str {
        self.element("Code").unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// Status and code together.
    pub(super) fn error(&self) -> (u16, &str) {
        (self.status, self.code())
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}
