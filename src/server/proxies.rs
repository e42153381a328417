//! Proxies in front: whom to believe, and what they tell of a client.
//!
//! Anybody can send `X-Forwarded-For`. Only what a configured proxy says counts, and of the addresses that it lists the last one that is
//! not a proxy itself: what stands before it was the client's own to invent.

use std::io;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest PROXY header in bytes: two IPv6 addresses and the certificates' names that a proxy may add stay well below.
const MAX_PROXY_HEADER: usize = 4096;
/// The fixed part of a PROXY header of version 2, with the length of the rest at its end.
const FIXED: usize = 16;

/// The networks whose word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

/// Who is at the other end, as far as the connection and the proxies in front of it tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) remote: SocketAddr,
    /// Whether its way to us (or to the proxy) is TLS.
    pub(super) secure: bool,
}

// === impl Proxies ===

impl Proxies {
    /// Of addresses and networks, such as `10.0.0.1` and `10.0.0.0/8`.
    ///
    /// # Errors
    /// The entry that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let network = |entry: &String| {
            let text = entry.trim();
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("`{entry}` is no address and no network"))
        };
        entries.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is a proxy's.
    pub(super) fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client that a request comes from, by what the proxies in front say.
    pub(super) fn client(&self, connected: Client, headers: &HeaderMap) -> Client {
        let mut client = connected;
        let listed = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let listed: Vec<&str> = listed.flat_map(|value| value.split(',')).map(str::trim).collect();
        for entry in listed.into_iter().rev() {
            // What cannot be read ends the chain: nobody vouches for what stands before it.
            let Some(address) = address(entry) else { break };
            client.remote = SocketAddr::new(address, 0);
            if !self.trust(address) {
                break;
            }
        }
        if let Some(proto) = last(headers, "x-forwarded-proto") {
            client.secure = proto.eq_ignore_ascii_case("https");
        }
        client
    }

    /// The host that the client asked for, when a proxy says that it was another.
    pub(super) fn host(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        HeaderValue::from_str(last(headers, "x-forwarded-host")?).ok()
    }
}

/// The last entry: the one of the proxy that is connected.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// An address, with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_matches(['[', ']']);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Reads the PROXY header (version 2) with which every connection begins
/// (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), and not a byte more.
///
/// # Errors
/// What stands there is none.
pub(super) async fn read_proxy_header(stream: &mut (impl AsyncRead + Unpin), connected: Client) -> io::Result<Client> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = vec![0; FIXED];
    stream.read_exact(&mut bytes).await?;
    let length = match bytes.last_chunk::<2>() {
        Some(length) if bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) => usize::from(u16::from_be_bytes(*length)),
        _ => return Err(invalid("the connection does not begin with a PROXY header of version 2".to_owned())),
    };
    if length > MAX_PROXY_HEADER {
        return Err(invalid(format!("a PROXY header of {length} bytes")));
    }
    bytes.resize(FIXED + length, 0);
    stream.read_exact(bytes.get_mut(FIXED..).unwrap_or_default()).await?;
    let header = Header::try_from(bytes.as_slice()).map_err(|error| invalid(error.to_string()))?;
    let remote = match (header.command, header.addresses) {
        // The proxy's own: a health check.
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => connected.remote,
        (Command::Proxy, Addresses::IPv4(pair)) => SocketAddr::new(pair.source_address.into(), pair.source_port),
        (Command::Proxy, Addresses::IPv6(pair)) => SocketAddr::new(pair.source_address.into(), pair.source_port),
    };
    // PP2_TYPE_SSL: its first byte has bit 0 set when the client came over TLS.
    let tls = header.tlvs().filter_map(Result::ok).find(|tlv| tlv.kind == u8::from(Type::SSL));
    let secure = tls.is_some_and(|tlv| tlv.value.first().is_some_and(|bits| bits & 1 != 0));
    Ok(Client { remote, secure: connected.secure || secure })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use ppp::v2::{Builder, Protocol, Version};

    use super::*;

    fn connected() -> Client {
        Client { remote: "10.0.0.1:4000".parse().unwrap(), secure: false }
    }

    fn seen(forwarded: &[&str], proto: &str) -> (String, bool) {
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned(), "fd00::1".to_owned()]).unwrap();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        if !proto.is_empty() {
            headers.insert("x-forwarded-proto", HeaderValue::from_str(proto).unwrap());
        }
        let client = proxies.client(connected(), &headers);
        (client.remote.ip().to_string(), client.secure)
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        assert_eq!(seen(&["192.0.2.7"], "https"), ("192.0.2.7".to_owned(), true));
        assert_eq!(seen(&["6.6.6.6, 192.0.2.7, 10.1.2.3"], "http"), ("192.0.2.7".to_owned(), false));
        assert_eq!(seen(&["6.6.6.6", "192.0.2.7:555"], ""), ("192.0.2.7".to_owned(), false));
        assert_eq!(seen(&["[2001:db8::1]:80", "fd00::1"], ""), ("2001:db8::1".to_owned(), false));
        assert_eq!(seen(&["6.6.6.6, unknown"], ""), ("10.0.0.1".to_owned(), false));
        assert_eq!(seen(&["10.9.9.9"], "https, http"), ("10.9.9.9".to_owned(), false));
        assert_eq!(seen(&[], ""), ("10.0.0.1".to_owned(), false));
    }

    #[test]
    fn only_what_is_configured_is_trusted() {
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        assert!(proxies.trust("10.255.0.1".parse().unwrap()) && proxies.trust("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!proxies.trust("11.0.0.1".parse().unwrap()));
        assert!(Proxies::parse(&["nginx".to_owned()]).is_err());
        assert!(!Proxies::default().trust("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_proxy_header_is_read_to_its_last_byte() {
        let addresses = ("192.0.2.9:4711".parse::<SocketAddr>().unwrap(), "10.0.0.2:9000".parse::<SocketAddr>().unwrap());
        let header = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
        let header = header.write_tlv(Type::SSL, &[1, 0, 0, 0, 0]).unwrap().build().unwrap();
        let mut bytes = [header.clone(), b"GET / HTTP/1.1".to_vec()].concat();
        let mut stream = bytes.as_slice();
        let client = read_proxy_header(&mut stream, connected()).await.unwrap();
        assert_eq!((client.remote.to_string().as_str(), client.secure), ("192.0.2.9:4711", true));
        assert_eq!(stream, b"GET / HTTP/1.1");
        // Not one, one that is too long, one that breaks off.
        assert!(read_proxy_header(&mut &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], connected()).await.is_err());
        assert!(read_proxy_header(&mut &header[..20], connected()).await.is_err());
        bytes[14] = 0xff;
        assert!(read_proxy_header(&mut bytes.as_slice(), connected()).await.is_err());
    }
}
