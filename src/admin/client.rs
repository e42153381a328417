//! The client of the API, for the command line: one call a connection, blocking, HTTP/1.0, so that an answer is what comes until the end.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

use crate::runtime::{Stream, Trust};
use crate::tokens::Secret;

const CONNECT: Duration = Duration::from_secs(3);
/// Longer than a provider that is mounted may take to open.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// A gateway's API.
#[derive(Debug)]
pub struct Client {
    address: String,
    token: Secret,
    trust: Option<Trust>,
}

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// Somebody answers what no gateway does.
    NotAGateway,
    /// The gateway refuses: status and message.
    Refused(u16, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "no gateway answers: {error}"),
            Self::NotAGateway => f.write_str("what answers is not the admin listener of a gateway"),
            Self::Refused(401, _) => {
                f.write_str("the gateway refuses the admin token (SLUICE_ADMIN_TOKEN, or admin.token in its data directory)")
            }
            Self::Refused(_, message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    /// Of the gateway whose admin listener has this address.
    #[must_use]
    pub fn new(address: &str, token: Secret) -> Self {
        Self { address: address.to_owned(), token, trust: None }
    }

    /// By TLS.
    #[must_use]
    pub fn with_trust(self, trust: Trust) -> Self {
        Self { trust: Some(trust), ..self }
    }

    /// Makes a call; answers the document, null when there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let answer = self.exchange(method, path, body).map_err(ClientError::Unreachable)?;
        let (status, body) = parse(&answer).ok_or(ClientError::NotAGateway)?;
        let document: Value =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(body).map_err(|_| ClientError::NotAGateway)? };
        if (200..300).contains(&status) {
            return Ok(document);
        }
        let message = document.pointer("/error/message").and_then(Value::as_str).ok_or(ClientError::NotAGateway)?;
        Err(ClientError::Refused(status, message.to_owned()))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Vec<u8>> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let stream = connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = match &self.trust {
            Some(trust) => trust.connect(stream, self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host))?,
            None => Stream::Plain(stream),
        };
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.token.expose(),
            body.len(),
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} is no address"));
    for mut address in address.to_socket_addrs()? {
        // A listener on every address of the machine is reached on its loopback.
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            address = SocketAddr::new(loopback, address.port());
        }
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some((status, answer.get(end + 4..)?))
}
