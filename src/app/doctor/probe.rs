//! The doctor's requests: one a connection, blocking, HTTP/1.1; signed in the query, as presigned links are.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use s3s_sigv4::AmzDate;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::runtime::{Stream, Trust};
use crate::tokens::Secret;

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Who signs.
pub(super) struct Keys {
    access_key: String,
    secret: Secret,
}

/// Where requests go.
pub(super) struct Probe {
    /// As the Host header has it.
    host: String,
    /// With its port.
    address: String,
    trust: Option<Trust>,
    keys: Option<(Keys, String)>,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Keys {
    /// Those that AWS clients take.
    pub(super) fn from_environment() -> Option<Self> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self { access_key: set("AWS_ACCESS_KEY_ID")?, secret: Secret::new(set("AWS_SECRET_ACCESS_KEY")?) })
    }
}

impl Probe {
    /// At an endpoint such as `http://127.0.0.1:9000`. One on all addresses is asked on the loopback.
    pub(super) fn new(endpoint: &str, trust: Option<Trust>) -> Self {
        let host = endpoint.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
        let host = host.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if trust.is_some() { 443 } else { 80 };
        let address = if has_port { host.clone() } else { format!("{host}:{port}") };
        Self { host, address, trust, keys: None }
    }

    /// Whether a certificate that was shown ends soon; `None` without TLS.
    pub(super) fn ends_soon(&self) -> Option<bool> {
        self.trust.as_ref().map(Trust::ends_soon)
    }

    pub(super) fn with_keys(self, keys: Keys, region: &str) -> Self {
        Self { keys: Some((keys, region.to_owned())), ..self }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn get(&self, target: &str) -> io::Result<Reply> {
        self.send("GET", target, &[], b"")
    }

    /// Sends, signed in the query. `path` is percent-encoded, `query` has its pairs in order.
    pub(super) fn signed(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let Some((keys, region)) = &self.keys else { return Err(io::Error::other("there is no key to sign with")) };
        let now = OffsetDateTime::now_utc();
        let now = now.format(format_description!("[year][month][day]T[hour][minute][second]Z")).map_err(io::Error::other)?;
        let date = AmzDate::parse(&now).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let more = if query.is_empty() { String::new() } else { format!("{query}&") };
        let query = format!(
            "{more}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F{}%2F{region}%2Fs3%2Faws4_request&X-Amz-Date={}\
             &X-Amz-Expires=60&X-Amz-SignedHeaders=host",
            keys.access_key,
            date.fmt_date(),
            date.fmt_iso8601(),
        );
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut pairs: Vec<(String, String)> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(n, v)| (decoded(n), decoded(v)))
            .collect();
        pairs.sort();
        let canonical =
            s3s_sigv4::create_presigned_canonical_request(method, &decoded(path), &pairs, [("host", self.host.as_str())]);
        let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, region, "s3");
        let signature = s3s_sigv4::calculate_signature(&to_sign, keys.secret.expose(), &date, region, "s3");
        self.send(method, &format!("{path}?{query}&X-Amz-Signature={signature}"), headers, body)
    }

    pub(super) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        let stream = connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = match &self.trust {
            Some(trust) => trust.connect(stream, self.address.rsplit_once(':').map_or(&*self.address, |(name, _)| name))?,
            None => Stream::Plain(stream),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak HTTP"))
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The S3 error code, where there is one.
    pub(super) fn code(&self) -> String {
        let text = self.text();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
        code.unwrap_or_default().to_owned()
    }
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    let addresses: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(answer.get(..end)?).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers: Vec<_> =
        lines.filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned())).collect();
    let body = answer.get(end + 4..)?.to_vec();
    let chunked = headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("transfer-encoding") && v.eq_ignore_ascii_case("chunked"));
    let body = if chunked { dechunked(&body) } else { body };
    Some(Reply { status, headers, body })
}

/// A proxy may frame what the gateway sent whole.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(rest.get(..end).unwrap_or_default()).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()).unwrap_or(0);
        let Some(chunk) = rest.get(end + 2..end + 2 + size).filter(|chunk| !chunk.is_empty()) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn answers_are_read_whole_and_in_chunks() {
        let reply = parse(b"HTTP/1.1 403 Forbidden\r\nServer: Sluice\r\n\r\n<Error><Code>AccessDenied</Code></Error>").unwrap();
        assert_eq!((reply.status, reply.header("server"), reply.code().as_str()), (403, Some("Sluice"), "AccessDenied"));
        let reply = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!(reply.body, b"abcde");
        assert!(parse(b"SSH-2.0").is_none());
    }
}
