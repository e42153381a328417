//! The short way of usual signatures lets in what the framework lets in, and nothing else: two gateways, one without it, over one store are sent the same.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::gateway::{Answer, Ask, Gateway, exchange};
use super::{ANN, BOB, sha256_hex};
use crate::s3::Settings;

const HOST: &str = "gateway.test";

/// A gateway that takes the short way, and one that does not.
struct Two {
    short: Gateway,
    long: Gateway,
}

impl Two {
    async fn start(settings: Settings) -> Self {
        let short = Gateway::with(settings.clone()).await;
        let long = short.beside(Settings { fast_signatures: false, ..settings }).await;
        let two = Self { short, long };
        for (method, target, body) in [
            ("PUT", "/bucket", ""),
            ("PUT", "/bucket/a", "one"),
            ("PUT", "/bucket/a%20b/%C3%A9", "two"),
            ("PUT", "/bucket/~-_.", ""),
            ("PUT", "/bucket/stays", ""),
        ] {
            let (answer, _) = two.ask(&two.made(method, target).body(body).wire()).await;
            assert_eq!(answer.status, 200, "{method} {target}");
        }
        two
    }

    fn made(&self, method: &str, target: &str) -> Ask {
        self.short.ask(method, target).header("host", HOST)
    }

    async fn ask(&self, wire: &[u8]) -> (Answer, Answer) {
        (exchange(self.short.address, wire).await, exchange(self.long.address, wire).await)
    }
}

/// What a client can tell two answers apart by, but for the time.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let timely = |name: &str| ["date", "last-modified", "x-amz-id-2"].contains(&name);
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str().to_owned(), format!("{value:?}")));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !timely(name)).collect();
    headers.sort();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    // `ServerTime` and the like are of the moment of each.
    let text = text.split("<ServerTime>").next().unwrap_or_default().to_owned();
    (answer.status, headers, text)
}

/// What becomes of a request on its way.
#[derive(Clone, Debug)]
enum Change {
    /// Another byte in its place.
    Byte(Index, u8),
    /// A line of the head twice.
    Twice(Index),
    /// A line of the head is lost.
    Lost(Index),
    /// Another line.
    Line(&'static str),
    /// One text for another, where it is there.
    Text(&'static str, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = select(b" %+&=;/,.:?Aa0_\t\"~".to_vec());
    let lines = vec![
        "x-amz-meta-a: 1",
        "x-amz-acl: private",
        "x-amz-content-sha256: UNSIGNED-PAYLOAD",
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-amz-decoded-content-length: 3",
        "x-amz-date: 20260101T000000Z",
        "authorization: AWS ANNSKEY:AAAA",
        "authorization: Bearer x",
        "content-length: 0",
        "host: other.test",
        "range: bytes=0-0",
        "if-match: \"x\"",
        "origin: https://page.test",
    ];
    let texts = vec![
        ("X-Amz-Signature", "x-amz-signature"),
        ("X-Amz-Signature", "X%2DAmz-Signature"),
        ("X-Amz-Algorithm", "X-Amz-Security-Token"),
        ("X-Amz-Expires=", "X-Amz-Expires=%2B"),
        ("X-Amz-Expires=", "X-Amz-Expires=9"),
        ("X-Amz-Expires=", "Signature=1&X-Amz-Expires="),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 "),
        ("SignedHeaders=", "SignedHeaders=host;"),
        ("host;", "host;;"),
        ("host;", "HOST;"),
        ("us-east-1", "eu-west-1"),
        ("us-east-1", ""),
        ("/s3/", "/sts/"),
        ("ANNSKEY", "BOBSKEY"),
        ("ANNSKEY", "NOBODYSKEY"),
        ("GET ", "HEAD "),
        ("GET ", "POST "),
        ("GET ", "DELETE "),
        ("/bucket", "/%62ucket"),
        ("/bucket", "//bucket"),
        ("%C3%A9", "%c3%a9"),
        ("%C3%A9", "%C3%28"),
        ("%20", "+"),
        ("%20", " "),
        ("?", "?&"),
        ("?", "?x=%ff&"),
        ("?", "?X-Amz-Algorithm=AWS4-HMAC-SHA256&"),
        (" HTTP/1.1", " HTTP/1.0"),
    ];
    prop_oneof![
        3 => (any::<Index>(), byte).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => any::<Index>().prop_map(Change::Twice),
        1 => any::<Index>().prop_map(Change::Lost),
        2 => select(lines).prop_map(Change::Line),
        4 => select(texts).prop_map(|(from, to)| Change::Text(from, to)),
    ]
}

fn changed(wire: &[u8], change: &Change) -> Vec<u8> {
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, rest) = wire.split_at(end);
    let mut head = String::from_utf8(head.to_vec()).unwrap();
    let lines: Vec<&str> = head.split("\r\n").skip(1).collect();
    match *change {
        Change::Byte(at, byte) => {
            let mut bytes = head.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            head = String::from_utf8(bytes).unwrap();
        }
        Change::Twice(which) => head = format!("{head}\r\n{}", lines[which.index(lines.len())]),
        Change::Lost(which) => head = head.replacen(&format!("\r\n{}", lines[which.index(lines.len())]), "", 1),
        Change::Line(line) => head = format!("{head}\r\n{line}"),
        Change::Text(from, to) => head = head.replacen(from, to, 1),
    }
    [head.as_bytes(), rest].concat()
}

/// A request as a client signs it.
#[derive(Clone, Debug)]
struct Made {
    method: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    payload: Option<&'static str>,
    /// Presigned so many seconds ago, for so many seconds.
    presigned: Option<(i64, i64)>,
}

fn made() -> impl Strategy<Value = Made> {
    let method = select(vec!["GET", "GET", "HEAD", "PUT", "DELETE", "POST"]);
    let target = select(vec![
        "/bucket/a",
        "/bucket/a%20b/%C3%A9",
        "/bucket/~-_.",
        "/bucket/no",
        "/bucket",
        "/",
        "/bucket?list-type=2&prefix=a%20",
        "/bucket?list-type=2&prefix=a+",
        "/bucket?prefix=&delimiter=/",
        "/bucket/a?response-content-type=text%2Fplain&x-id=GetObject",
        "/bucket/a?b=1&a=2&a=1",
        "/bucket/a?acl",
        "/bucket/a:b,c@d",
        "/bucket/%61",
    ]);
    let headers = proptest::sample::subsequence(
        vec![
            ("x-amz-meta-one", "a b"),
            ("x-amz-meta-two", "  a  b "),
            ("content-type", "text/plain; charset=utf-8"),
            ("range", "bytes=0-1"),
            ("x-amz-expected-bucket-owner", "somebody"),
        ],
        0..=2,
    );
    let payload = prop_oneof![3 => Just(None), 2 => Just(Some("UNSIGNED-PAYLOAD"))];
    let presigned = prop_oneof![
        3 => Just(None),
        3 => Just(Some((10, 300))),
        1 => select(vec![(0, 1), (300, 300), (-600, 60), (-1000, 60), (10, 604_800), (10, 604_801), (10, -1), (604_000, 604_800)]).prop_map(Some),
    ];
    (method, target, headers, select(vec!["", "", "body"]), payload, presigned).prop_map(
        |(method, target, headers, body, payload, presigned)| Made { method, target, headers, body, payload, presigned },
    )
}

impl Made {
    fn wire(&self, two: &Two) -> Vec<u8> {
        let mut ask = two.made(self.method, self.target).body(self.body);
        for (name, value) in &self.headers {
            ask = ask.header(name, value);
        }
        if let Some(payload) = self.payload {
            ask = ask.payload(payload);
        }
        match self.presigned {
            Some((ago, expires)) => ask.presigned(expires, time::OffsetDateTime::now_utc() - time::Duration::seconds(ago)).wire(),
            None => ask.wire(),
        }
    }
}

#[test]
fn both_ways_answer_alike_whatever_comes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for check_region in [false, true] {
        let two = runtime.block_on(Two::start(Settings { check_region, ..Settings::default() }));
        let mut runner = TestRunner::new(Config { cases: 700, failure_persistence: None, ..Config::default() });
        let asked = (made(), proptest::collection::vec(change(), 0..=2));
        let outcome = runner.run(&asked, |(made, changes)| {
            let wire = changes.iter().fold(made.wire(&two), |wire, change| changed(&wire, change));
            // The one that may have been removed.
            let (short, long) = runtime.block_on(async {
                two.long.put("/bucket/a", "one").await;
                two.ask(&wire).await
            });
            let text = String::from_utf8_lossy(&wire);
            (seen(&short) == seen(&long))
                .then_some(())
                .ok_or_else(|| TestCaseError::fail(format!("{text}\nshort: {:?}\nlong: {:?}", seen(&short), seen(&long))))
        });
        outcome.unwrap();
    }
}

#[tokio::test]
async fn what_was_signed_is_what_counts() {
    let two = Two::start(Settings::default()).await;
    let now = time::OffsetDateTime::now_utc();
    for (what, wire, status) in [
        ("in the headers", two.made("GET", "/bucket/a").wire(), 200),
        ("in the query", two.made("GET", "/bucket/a").presigned(60, now).wire(), 200),
        ("of nobody", two.made("GET", "/bucket/a").by(("NOBODY", "secret")).wire(), 403),
        ("with another's secret", two.made("GET", "/bucket/a").by((ANN.0, BOB.1)).wire(), 403),
        ("by another", two.made("GET", "/bucket/a").by(BOB).wire(), 403),
        ("over", two.made("GET", "/bucket/a").presigned(60, now - time::Duration::seconds(61)).wire(), 403),
        ("too early", two.made("GET", "/bucket/a").presigned(60, now + time::Duration::seconds(1000)).wire(), 403),
        ("without the host", two.made("GET", "/bucket/a").without_host_signature().wire(), 403),
        (
            "with a header beside",
            two.made("PUT", "/bucket/b").presigned(60, now).late("x-amz-copy-source", "/bucket/a").wire(),
            403,
        ),
        ("with another body", two.made("PUT", "/bucket/b").payload(&sha256_hex(b"other")).body("body").wire(), 400),
        ("for another service", two.made("GET", "/bucket/a").service("sts").wire(), 400),
    ] {
        let (short, long) = two.ask(&wire).await;
        assert_eq!((short.status, long.status), (status, status), "{what}");
    }
    // A key that is known already is not good for what it did not sign.
    let wire = two.made("GET", "/bucket/a").presigned(60, now).wire();
    let other = String::from_utf8(wire.clone()).unwrap().replacen("/bucket/a?", "/bucket/~-_.?", 1);
    assert_eq!(two.ask(&wire).await.0.status, 200);
    assert_eq!(two.ask(other.as_bytes()).await.0.code(), "SignatureDoesNotMatch");
}
