use std::sync::Arc;

use super::*;
use crate::s3::route::{Route, Verified};
use crate::transfer::Algorithm;

#[tokio::test]
async fn an_object_comes_back_as_it_went_in() {
    let g = Gateway::with_bucket().await;
    let put = g
        .ask("PUT", "/bucket/a%20b/%C3%A9+")
        .header("content-type", "text/plain")
        .header("cache-control", "max-age=9")
        .header("content-disposition", "attachment")
        .header("content-language", "de")
        .header("expires", "Thu, 01 Dec 2094 16:00:00 GMT")
        .header("x-amz-meta-one", "1")
        .header("x-amz-meta-empty", "")
        .header("x-amz-website-redirect-location", "/other")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
        .header("x-amz-tagging", "a=1&b=2")
        .body("hello")
        .send()
        .await;
    assert_eq!((put.status, put.header("etag")), (200, "\"5d41402abc4b2a76b9719d911017c592\""));
    for method in ["GET", "HEAD"] {
        let got = g.ask(method, "/bucket/a%20b/%C3%A9+").send().await;
        assert_eq!(got.status, 200);
        for (name, value) in [
            ("content-type", "text/plain"),
            ("cache-control", "max-age=9"),
            ("content-disposition", "attachment"),
            ("content-language", "de"),
            ("expires", "Thu, 01 Dec 2094 16:00:00 GMT"),
            ("x-amz-meta-one", "1"),
            ("x-amz-website-redirect-location", "/other"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-tagging-count", "2"),
            ("etag", "\"5d41402abc4b2a76b9719d911017c592\""),
            ("accept-ranges", "bytes"),
            ("content-length", "5"),
        ] {
            assert_eq!(got.header(name), value, "{method} {name}");
        }
        assert!(got.headers.contains_key("x-amz-meta-empty") && got.header("last-modified").ends_with(" GMT"));
        assert_eq!(got.body, if method == "GET" { &b"hello"[..] } else { b"" });
    }
    let plain = g.put("/bucket/plain", "").await;
    assert_eq!(plain.header("etag"), "\"d41d8cd98f00b204e9800998ecf8427e\"");
    let got = g.get("/bucket/plain").await;
    assert_eq!((got.header("content-type"), got.header("content-length")), ("binary/octet-stream", "0"));
}

#[tokio::test]
async fn errors_are_told_as_aws_tells_them() {
    let g = Gateway::with_bucket().await;
    let none = g.get("/bucket/no%26ne").await;
    assert_eq!(none.error(), (404, "NoSuchKey"));
    assert_eq!(none.header("content-type"), "application/xml");
    assert_eq!(none.element("Message"), Some("The specified key does not exist."));
    assert_eq!(none.element("Key"), Some("no&amp;ne"));
    assert_eq!(none.element("Resource"), Some("/bucket/no%26ne"));
    assert_eq!(none.element("RequestId"), Some("TESTREQUEST"));
    assert_eq!(none.element("HostId"), Some(crate::telemetry::host_id()));
    let head = g.ask("HEAD", "/bucket/none").send().await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    // What the framework refuses looks the same.
    let wrong = g.ask("GET", "/bucket/none").by(("ANNSKEY", "wrong")).send().await;
    assert_eq!(wrong.error(), (403, "SignatureDoesNotMatch"));
    assert_eq!((wrong.element("Resource"), wrong.element("RequestId")), (Some("/bucket/none"), Some("TESTREQUEST")));
    assert!(wrong.element("Message").unwrap().starts_with("The request signature we calculated does not match"));
    let head = g.ask("HEAD", "/bucket/none").by(("ANNSKEY", "wrong")).send().await;
    assert_eq!((head.status, head.body.len()), (403, 0));
    assert_eq!(g.get(&format!("/bucket/{}", "k".repeat(1025))).await.error(), (400, "KeyTooLongError"));
    assert_eq!(g.ask("PATCH", "/bucket/k").send().await.error(), (405, "MethodNotAllowed"));
    assert_eq!(g.ask("POST", "/bucket/k?select&select-type=2").send().await.error(), (501, "NotImplemented"));
}

#[tokio::test]
async fn the_range_matrix() {
    let g = Gateway::with_bucket().await;
    let body: Vec<u8> = (0..1000_u32).map(|i| i as u8).collect();
    g.put("/bucket/k", body.clone()).await;
    g.put("/bucket/empty", "").await;
    for (range, status, bytes) in [
        ("bytes=0-499", 206, 0..500),
        ("bytes=500-", 206, 500..1000),
        ("bytes=-200", 206, 800..1000),
        ("bytes=0-999", 206, 0..1000),
        ("bytes=0-0", 206, 0..1),
        ("bytes=0-1000", 206, 0..1000),
        ("bytes=-2000", 206, 0..1000),
        ("bytes=500-100", 200, 0..1000),
        ("chars=0-1", 200, 0..1000),
        ("bytes=0-1,5-6", 200, 0..1000),
        ("bytes=x", 200, 0..1000),
    ] {
        for method in ["GET", "HEAD"] {
            let got = g.ask(method, "/bucket/k").header("range", range).send().await;
            assert_eq!(got.status, status, "{method} {range}");
            assert_eq!(got.header("content-length"), bytes.len().to_string(), "{method} {range}");
            let shown = if status == 206 { format!("bytes {}-{}/1000", bytes.start, bytes.end - 1) } else { String::new() };
            assert_eq!(got.header("content-range"), shown, "{method} {range}");
            if method == "GET" {
                assert_eq!(got.body, body[bytes.clone()], "{range}");
            }
        }
    }
    for (key, size, range) in
        [("k", 1000, "bytes=1000-"), ("k", 1000, "bytes=-0"), ("empty", 0, "bytes=0-"), ("empty", 0, "bytes=-5")]
    {
        let got = g.ask("GET", &format!("/bucket/{key}")).header("range", range).send().await;
        assert_eq!(got.error(), (416, "InvalidRange"), "{range}");
        assert_eq!(got.header("content-range"), format!("bytes */{size}"));
        assert_eq!(
            (got.element("RangeRequested"), got.element("ActualObjectSize")),
            (Some(range), Some(size.to_string().as_str()))
        );
    }
    let etag = g.ask("HEAD", "/bucket/k").send().await.header("etag").to_owned();
    let if_range =
        async |value: &str| g.ask("GET", "/bucket/k").header("range", "bytes=0-9").header("if-range", value).send().await.status;
    assert_eq!(
        (if_range(&etag).await, if_range("\"stale\"").await, if_range("Sun, 06 Nov 1994 08:49:37 GMT").await),
        (206, 200, 200)
    );
}

#[tokio::test]
async fn conditions_on_reads() {
    let g = Gateway::with_bucket().await;
    let etag = g.put("/bucket/k", "x").await.header("etag").to_owned();
    let modified = g.ask("HEAD", "/bucket/k").send().await.header("last-modified").to_owned();
    let ask = async |name: &str, value: &str| g.ask("GET", "/bucket/k").header(name, value).send().await;
    assert_eq!(ask("if-match", &etag).await.status, 200);
    assert_eq!(ask("if-match", "\"other\"").await.error(), (412, "PreconditionFailed"));
    assert_eq!(ask("if-none-match", "other").await.status, 200);
    let same = ask("if-none-match", &etag).await;
    assert_eq!(
        (same.status, same.body.len(), same.header("etag"), same.header("last-modified")),
        (304, 0, etag.as_str(), modified.as_str())
    );
    assert_eq!(same.header("content-type"), "");
    assert_eq!(ask("if-modified-since", &modified).await.status, 304);
    assert_eq!(ask("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT").await.status, 412);
    // Dates that AWS ignores.
    for odd in ["Sunday, 06-Nov-94 08:49:37 GMT", "soon", "2100-01-01"] {
        assert_eq!(ask("if-modified-since", odd).await.status, 200, "{odd}");
        assert_eq!(ask("if-unmodified-since", odd).await.status, 200, "{odd}");
    }
    // An unsigned condition counts as well.
    assert_eq!(g.ask("GET", "/bucket/k").late("if-match", "\"other\"").send().await.status, 412);
}

#[tokio::test]
async fn conditions_on_writes_and_deletes() {
    let g = Gateway::with_bucket().await;
    let put = async |name: &str, value: &str| g.ask("PUT", "/bucket/k").header(name, value).body("x").send().await;
    assert_eq!(put("if-match", "\"e\"").await.error(), (404, "NoSuchKey"));
    let first = put("if-none-match", "*").await;
    let second = put("if-none-match", "*").await;
    assert_eq!(
        (first.status, second.error(), second.element("Condition")),
        (200, (412, "PreconditionFailed"), Some("If-None-Match"))
    );
    assert_eq!(put("if-match", "\"other\"").await.error(), (412, "PreconditionFailed"));
    assert_eq!(put("if-match", first.header("etag")).await.status, 200);
    assert_eq!(put("if-none-match", "\"e\"").await.status, 200);
    assert_eq!(put("if-none-match", first.header("etag")).await.error(), (412, "PreconditionFailed"));
    assert_eq!(put("if-none-match", "\"e\", \"f\"").await.error(), (501, "NotImplemented"));
    assert_eq!(g.ask("PUT", "/bucket/k").late("if-none-match", "*").body("y").send().await.status, 412);
    let delete = async |name: &str, value: &str| g.ask("DELETE", "/bucket/k").header(name, value).send().await;
    assert_eq!(delete("if-match", "\"other\"").await.error(), (412, "PreconditionFailed"));
    assert_eq!(delete("x-amz-if-match-size", "9").await.error(), (412, "PreconditionFailed"));
    assert_eq!(g.get("/bucket/k").await.body, b"x");
    assert_eq!(delete("if-match", first.header("etag")).await.status, 204);
    assert_eq!(g.ask("DELETE", "/bucket/k").send().await.status, 204, "deleting nothing succeeds");
}

#[tokio::test]
async fn response_overrides_on_get_and_head_but_not_for_anybody() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    let target = "/bucket/k?response-content-type=a%2Fb&response-content-disposition=inline%3B%20x&response-expires=now\
                  &response-cache-control=no-store&response-content-language=fr&response-content-encoding=br";
    for method in ["GET", "HEAD"] {
        let got = g.ask(method, target).send().await;
        assert_eq!((got.status, got.header("content-type"), got.header("content-disposition")), (200, "a/b", "inline; x"));
        assert_eq!((got.header("expires"), got.header("cache-control")), ("now", "no-store"));
        assert_eq!((got.header("content-language"), got.header("content-encoding")), ("fr", "br"));
    }
    assert_eq!(g.ask("GET", target).anonymous().send().await.error(), (400, "InvalidRequest"));
    assert_eq!(g.ask("GET", "/bucket/k?response-content-type=a%0d%0ab").send().await.error(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn checksums_are_verified_kept_and_shown() {
    let g = Gateway::with_bucket().await;
    for algorithm in Algorithm::ALL {
        let value = checksum(algorithm, b"hello");
        let put = g.ask("PUT", "/bucket/k").header(algorithm.header(), &value).body("hello").send().await;
        assert_eq!(
            (put.status, put.header(algorithm.header()), put.header("x-amz-checksum-type")),
            (200, value.as_str(), "FULL_OBJECT")
        );
        for method in ["GET", "HEAD"] {
            let got = g.ask(method, "/bucket/k").header("x-amz-checksum-mode", "ENABLED").send().await;
            assert_eq!((got.header(algorithm.header()), got.header("x-amz-checksum-type")), (value.as_str(), "FULL_OBJECT"));
        }
        assert_eq!(g.get("/bucket/k").await.header(algorithm.header()), "", "only when asked for");
        let part = g.ask("GET", "/bucket/k").header("x-amz-checksum-mode", "ENABLED").header("range", "bytes=0-1").send().await;
        assert_eq!((part.status, part.header(algorithm.header())), (206, ""), "the whole's checksum is not the range's");
        let wrong = checksum(algorithm, b"other");
        let bad = g.ask("PUT", "/bucket/k").header(algorithm.header(), &wrong).body("hellO").send().await;
        assert_eq!(bad.error(), (400, "BadDigest"));
        assert_eq!(g.get("/bucket/k").await.body, b"hello", "the old object stays");
    }
    let crc = ("x-amz-checksum-crc32", checksum(Algorithm::Crc32, b"x"));
    let attributes = g
        .ask("GET", "/bucket/k?attributes")
        .header("x-amz-object-attributes", "ETag,Checksum,ObjectSize,StorageClass,ObjectParts")
        .send()
        .await;
    assert_eq!(attributes.element("ETag"), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(attributes.element("ChecksumSHA256"), Some(checksum(Algorithm::Sha256, b"hello").as_str()));
    assert_eq!((attributes.element("ObjectSize"), attributes.element("StorageClass")), (Some("5"), Some("STANDARD")));
    assert_eq!(attributes.element("ObjectParts"), None);
    let odd =
        g.ask("PUT", "/bucket/k").header(crc.0, &crc.1).header("x-amz-checksum-sha1", &checksum(Algorithm::Sha1, b"x")).body("x");
    assert_eq!(odd.send().await.error(), (400, "InvalidRequest"));
}

#[tokio::test]
async fn object_tags_are_kept() {
    let g = Gateway::with_bucket().await;
    let etag = g.put("/bucket/k", "x").await.header("etag").to_owned();
    assert_eq!(g.get("/bucket/k?tagging").await.elements("Tag").len(), 0);
    let doc = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b</Key><Value/></Tag></TagSet></Tagging>";
    assert_eq!(g.put("/bucket/k?tagging", doc).await.status, 200);
    assert_eq!(g.get("/bucket/k?tagging").await.elements("Key"), ["a", "b"]);
    let head = g.ask("HEAD", "/bucket/k").send().await;
    assert_eq!((head.header("x-amz-tagging-count"), head.header("etag")), ("2", etag.as_str()));
    assert_eq!(g.ask("DELETE", "/bucket/k?tagging").send().await.status, 204);
    assert_eq!(g.ask("HEAD", "/bucket/k").send().await.header("x-amz-tagging-count"), "");
    assert_eq!(g.put("/bucket/none?tagging", doc).await.error(), (404, "NoSuchKey"));
    assert_eq!(g.put("/bucket/k?tagging", "<x/>").await.error(), (400, "MalformedXML"));
    assert_eq!(g.ask("PUT", "/bucket/k").header("x-amz-tagging", "").body("x").send().await.status, 200);
}

#[tokio::test]
async fn only_the_null_version_is_there() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    assert_eq!(g.get("/bucket/k?versionId=null").await.status, 200);
    assert_eq!(g.get("/bucket/k?versionId=").await.error(), (400, "InvalidArgument"));
    assert_eq!(g.get("/bucket/k?versionId=nope").await.error(), (400, "InvalidArgument"));
    let made_up = "k".repeat(32);
    assert_eq!(g.get(&format!("/bucket/k?versionId={made_up}")).await.error(), (404, "NoSuchVersion"));
    assert_eq!(g.ask("DELETE", &format!("/bucket/k?versionId={made_up}")).send().await.status, 204);
    assert_eq!(g.get("/bucket/k").await.status, 200, "another version is not this one");
    assert_eq!(g.ask("DELETE", "/bucket/k?versionId=null").send().await.status, 204);
    assert_eq!(g.get("/bucket/k?retention").await.error(), (400, "InvalidRequest"));
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let g = Gateway::with_bucket().await;
    for key in ["a", "b", "c&d"] {
        g.put(&format!("/bucket/{}", key.replace('&', "%26")), key).await;
    }
    let delete =
        async |doc: &str| g.ask("POST", "/bucket?delete").header("content-md5", &md5(doc.as_bytes())).body(doc).send().await;
    let object = |key: &str| format!("<Object><Key>{key}</Key></Object>");
    let done = delete(&format!("<Delete>{}{}</Delete>", object("a"), object("none"))).await;
    assert_eq!((done.status, done.elements("Key")), (200, vec!["a", "none"]));
    let quiet = delete(&format!("<Delete><Quiet>true</Quiet>{}</Delete>", object("<![CDATA[c&d]]>"))).await;
    assert_eq!((quiet.status, quiet.elements("Deleted").len()), (200, 0));
    assert_eq!(g.get("/bucket/c%26d").await.status, 404, "CDATA is a key like any other");
    for bad in [
        "<Delete></Delete>",
        "<Delete><Object><Key></Key></Object></Delete>",
        "<Delete>",
        "<Delete><Object><Key><![CDATA[]]></Key></Object></Delete>",
    ] {
        assert_eq!(delete(bad).await.error(), (400, "MalformedXML"), "{bad}");
    }
    assert_eq!(delete(&format!("<Delete>{}</Delete>", object("k").repeat(1001))).await.error(), (400, "MalformedXML"));
    assert_eq!(
        delete(&format!("<Delete>{}</Delete>", object(&"&amp;".repeat(1024)).repeat(1000))).await.elements("Deleted").len(),
        1000
    );
    let conditional = delete("<Delete><Object><Key>b</Key><ETag>other</ETag></Object></Delete>").await;
    assert_eq!((conditional.status, conditional.code()), (200, "PreconditionFailed"));
    assert_eq!(g.get("/bucket/b").await.status, 200);
    let doc = format!("<Delete>{}</Delete>", object("b"));
    assert_eq!(g.ask("POST", "/bucket?delete").body(doc.clone()).send().await.error(), (400, "InvalidRequest"));
    let wrong = g.ask("POST", "/bucket?delete").header("content-md5", &md5(b"other")).body(doc.clone()).send().await;
    assert_eq!(wrong.error(), (400, "BadDigest"));
    let crc = checksum(Algorithm::Crc32, doc.as_bytes());
    assert_eq!(
        g.ask("POST", "/bucket?delete").header("x-amz-checksum-crc32", &crc).body(doc).send().await.elements("Key"),
        ["b"]
    );
}

/// It is put into a box for every request. Beyond 7 KiB the box would take turns with what connections read into (8 KiB), whose second
/// page is never touched otherwise.
#[tokio::test]
async fn a_request_on_its_way_is_small() {
    let gateway = Gateway::start().await;
    let (head, ()) = http::Request::new(()).into_parts();
    let body = s3s::Body::empty();
    let verified = Verified { head, body, trailers: None, service: None, access_key: None, credential: None, query: None };
    let route = Route::new(Arc::new(gateway.parts.clone()));
    let bytes = size_of_val(&route.answer(verified));
    assert!(bytes <= 5 << 10, "{bytes} bytes");
}
