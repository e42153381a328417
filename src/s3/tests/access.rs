use super::*;
use time::{Duration, OffsetDateTime};

#[tokio::test]
async fn buckets_belong_to_their_owners() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    for (method, target) in [
        ("GET", "/bucket"),
        ("GET", "/bucket?location"),
        ("HEAD", "/bucket"),
        ("GET", "/bucket/k"),
        ("PUT", "/bucket/k"),
        ("DELETE", "/bucket/k"),
        ("DELETE", "/bucket"),
        ("PUT", "/bucket/k?uploadId=u&partNumber=1"),
        ("POST", "/bucket/k?uploads"),
        ("GET", "/bucket?uploads"),
        ("PUT", "/bucket?tagging"),
    ] {
        let refused = g.ask(method, target).by(BOB).send().await;
        assert_eq!(refused.status, 403, "{method} {target}");
        let anonymous = g.ask(method, target).anonymous().send().await;
        assert_eq!(anonymous.status, 403, "{method} {target}");
    }
    assert_eq!(g.ask("GET", "/bucket/k").by(ROOT).send().await.body, b"x");
    assert_eq!(g.ask("GET", "/none/k").by(BOB).send().await.error(), (404, "NoSuchBucket"));
    let copy = g.ask("PUT", "/bobs").by(BOB).send().await;
    assert_eq!(copy.status, 200);
    let copy = g.ask("PUT", "/bobs/k").by(BOB).header("x-amz-copy-source", "bucket/k").send().await;
    assert_eq!(copy.error(), (403, "AccessDenied"));
    // A presigned PUT cannot be turned into a copy by a header that was not signed.
    let url = g.ask("PUT", "/bucket/new").presigned(60, OffsetDateTime::now_utc());
    assert_eq!(url.late("x-amz-copy-source", "bucket/k").send().await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn an_unsigned_head_tells_the_region() {
    let g = Gateway::with_bucket().await;
    let head = g.ask("HEAD", "/bucket").anonymous().send().await;
    assert_eq!((head.status, head.header("x-amz-bucket-region"), head.body.len()), (403, "us-east-1", 0));
}

#[tokio::test]
async fn the_host_must_be_among_the_signed_headers() {
    let g = Gateway::with_bucket().await;
    let refused = g.ask("GET", "/bucket").without_host_signature().send().await;
    assert_eq!((refused.error(), refused.element("HeadersNotSigned")), ((403, "AccessDenied"), Some("host")));
}

#[tokio::test]
async fn bad_credentials_are_told_apart() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.ask("GET", "/bucket").by(("NOBODY", "x")).send().await.error(), (403, "InvalidAccessKeyId"));
    assert_eq!(g.ask("GET", "/bucket").by((ANN.0, "x")).send().await.error(), (403, "SignatureDoesNotMatch"));
    assert_eq!(g.ask("GET", "/bucket").header("x-amz-security-token", "t").send().await.error(), (400, "InvalidToken"));
    let odd = g.ask("GET", "/bucket").anonymous().header("authorization", "Bearer x").send().await;
    assert_eq!(odd.status, 400);
    let other = g.ask("GET", "/bucket").header("x-amz-expected-bucket-owner", "123456789012").send().await;
    assert_eq!(other.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn presigned_urls() {
    let g = Gateway::with_bucket().await;
    let now = OffsetDateTime::now_utc();
    let put = g.ask("PUT", "/bucket/k").presigned(60, now).body("hello").send().await;
    assert_eq!(put.status, 200);
    let get = |expires, made| g.ask("GET", "/bucket/k?response-content-type=a%2Fb").presigned(expires, made);
    let got = get(60, now).send().await;
    assert_eq!((got.status, got.header("content-type"), got.body.as_slice()), (200, "a/b", &b"hello"[..]));
    let range = get(60, now).header("range", "bytes=1-2").send().await;
    assert_eq!((range.status, range.body.as_slice()), (206, &b"el"[..]));
    let expired = get(60, now - Duration::seconds(120)).send().await;
    assert_eq!((expired.error(), expired.element("Message")), ((403, "AccessDenied"), Some("Request has expired")));
    assert_eq!(get(-1000, now).send().await.error(), (403, "AccessDenied"));
    assert_eq!(get(604_800, now).send().await.status, 200);
    let late = get(604_801, now).send().await;
    assert_eq!(late.error(), (400, "AuthorizationQueryParametersError"));
    assert!(late.element("Message").unwrap().contains("less than a week"));
    let future = get(60, now + Duration::minutes(20)).send().await;
    assert_eq!(future.error(), (403, "RequestTimeTooSkewed"));
    let head = g.ask("HEAD", "/bucket/k").presigned(60, now).send().await;
    assert_eq!((head.status, head.header("content-length")), (200, "5"));
}

#[tokio::test]
async fn virtual_hosts() {
    let g = Gateway::with_bucket().await;
    let host = |method: &str, target: &str, host: &str| g.ask(method, target).header("host", host);
    assert_eq!(host("PUT", "/a/b", "bucket.s3.test").body("x").send().await.status, 200);
    assert_eq!(g.get("/bucket/a/b").await.body, b"x");
    assert_eq!(host("GET", "/a/b", "bucket.s3.test:9000").send().await.body, b"x");
    assert_eq!(host("GET", "/bucket/a/b", "s3.test").send().await.body, b"x");
    assert_eq!(host("GET", "/bucket/a/b", "other.example").send().await.body, b"x", "an unknown host is path style");
    assert_eq!(host("GET", "/?list-type=2", "bucket.s3.test").send().await.elements("Key"), ["a/b"]);
    assert_eq!(host("GET", "/", "none.s3.test").send().await.error(), (404, "NoSuchBucket"));
}

#[tokio::test]
async fn a_preflight_without_rules_is_refused() {
    let g = Gateway::with_bucket().await;
    let preflight =
        g.ask("OPTIONS", "/bucket/k").anonymous().header("origin", "http://x").header("access-control-request-method", "GET");
    assert_eq!(preflight.send().await.error(), (403, "AccessForbidden"));
}
