//! The answers that hyper gives by itself: how they are known, and what is said in their place.

use bytes::Bytes;
use http::{Response, header};

/// The status of an answer that hyper gives by itself when it cannot read a request. Nothing of ours looks like it: every other
/// answer has more headers than these, and the id of its request among them.
pub(super) fn bare_status(written: &[u8]) -> Option<u16> {
    // Seldom, so that this is the comparison of a few bytes almost always.
    let rest = written.strip_prefix(b"HTTP/1.1 4").or_else(|| written.strip_prefix(b"HTTP/1.0 4"))?;
    let text = std::str::from_utf8(rest).ok()?;
    let (line, headers) = text.split_once("\r\n")?;
    let status = match line.get(..2)? {
        "00" => 400,
        "14" => 414,
        "31" => 431,
        _ => return None,
    };
    let headers = headers.strip_prefix("connection: close\r\ncontent-length: 0\r\n")?;
    let bare = headers.strip_suffix("\r\n")?.split_terminator("\r\n").all(|line| line.starts_with("date: "));
    bare.then_some(status)
}

/// An answer as it goes over the wire, with the date of the `bare` one that it replaces.
pub(super) fn bytes(response: Response<Bytes>, bare: &[u8]) -> Bytes {
    let (head, body) = response.into_parts();
    let mut wire = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        if *name != header::CONTENT_LENGTH && *name != header::CONNECTION {
            wire.extend_from_slice(name.as_str().as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
    }
    for line in bare.split_inclusive(|b| *b == b'\n').filter(|line| line.starts_with(b"date: ")) {
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    wire.extend_from_slice(&body);
    wire.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_a_bare_answer_is_one() {
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let bare = |line: &str| {
            bare_status(format!("HTTP/1.1 {line}\r\nconnection: close\r\ncontent-length: 0\r\n{date}\r\n").as_bytes())
        };
        assert_eq!(bare("400 Bad Request"), Some(400));
        assert_eq!(bare("431 Request Header Fields Too Large"), Some(431));
        assert_eq!(bare("404 Not Found"), None);
        assert_eq!(bare("200 OK"), None);
        for other in [
            "HTTP/1.1 400 Bad Request\r\nx-amz-request-id: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\nx-amz-request-id: 1\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(bare_status(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_document_replaces_it() {
        let mut response = Response::new(Bytes::from_static(b"<Error/>"));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        response.headers_mut().insert("server", "Sluice".parse().unwrap());
        let wire = bytes(response, b"HTTP/1.1 400 Bad Request\r\ndate: now\r\n\r\n");
        let want =
            "HTTP/1.1 400 Bad Request\r\nserver: Sluice\r\ndate: now\r\nconnection: close\r\ncontent-length: 8\r\n\r\n<Error/>";
        assert_eq!(wire, want);
    }
}
