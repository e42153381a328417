use super::*;
use crate::transfer::Algorithm;

const MIB: usize = 1024 * 1024;

async fn begin(g: &Gateway, headers: &[(&str, &str)]) -> String {
    let mut ask = g.ask("POST", "/bucket/k?uploads");
    for (name, value) in headers {
        ask = ask.header(name, value);
    }
    let begun = ask.send().await;
    assert_eq!((begun.status, begun.element("Bucket"), begun.element("Key")), (200, Some("bucket"), Some("k")));
    begun.element("UploadId").unwrap().to_owned()
}

fn complete(parts: &[(u16, &str)]) -> String {
    let part = |(number, etag): &(u16, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", etag.replace('"', "&quot;"))
    };
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.iter().map(part).collect::<String>())
}

#[tokio::test]
async fn an_upload_from_beginning_to_end() {
    let g = Gateway::with_bucket().await;
    let id = begin(&g, &[("content-type", "text/plain"), ("x-amz-meta-x", "1"), ("x-amz-tagging", "a=1")]).await;
    let big = vec![b'a'; 5 * MIB];
    let upload = async |n: u16, body: &[u8]| {
        let part = g.put(&format!("/bucket/k?partNumber={n}&uploadId={id}"), body).await;
        assert_eq!(part.status, 200);
        part.header("etag").to_owned()
    };
    let last = upload(7, b"end").await;
    let first = upload(2, &big).await;
    assert_eq!(g.get("/bucket/k").await.status, 404);
    let parts = g.get(&format!("/bucket/k?uploadId={id}&max-parts=1")).await;
    assert_eq!(
        (parts.elements("PartNumber"), parts.element("IsTruncated"), parts.element("NextPartNumberMarker")),
        (vec!["2"], Some("true"), Some("2"))
    );
    let parts = g.get(&format!("/bucket/k?uploadId={id}&part-number-marker=2")).await;
    assert_eq!(
        (parts.elements("PartNumber"), parts.element("Size"), parts.element("IsTruncated")),
        (vec!["7"], Some("3"), Some("false"))
    );
    let uploads = g.get("/bucket?uploads&prefix=k").await;
    assert_eq!(
        (uploads.element("UploadId"), uploads.element("Key"), uploads.element("IsTruncated")),
        (Some(id.as_str()), Some("k"), Some("false"))
    );
    assert_eq!(g.get("/bucket?uploads&prefix=x").await.elements("Upload").len(), 0);

    let target = format!("/bucket/k?uploadId={id}");
    let post = async |doc: String| g.ask("POST", &target).body(doc).send().await;
    assert_eq!(post(complete(&[])).await.error(), (400, "MalformedXML"));
    assert_eq!(post("<x".into()).await.error(), (400, "MalformedXML"));
    assert_eq!(post(complete(&[(2, &first), (3, "\"none\"")])).await.error(), (400, "InvalidPart"));
    assert_eq!(post(complete(&[(2, "\"other\"")])).await.error(), (400, "InvalidPart"));
    assert_eq!(post(complete(&[(7, &last), (2, &first)])).await.error(), (400, "InvalidPartOrder"));
    let done = post(complete(&[(2, &first), (7, &last)])).await;
    assert_eq!((done.status, done.element("Key"), done.element("Bucket")), (200, Some("k"), Some("bucket")));
    assert!(done.element("ETag").unwrap().ends_with("-2&quot;") && done.element("Location").unwrap().ends_with("/bucket/k"));
    let again = post(complete(&[(2, &first), (7, &last)])).await;
    assert_eq!((again.status, again.element("ETag")), (200, done.element("ETag")), "a repeated Complete answers the same");

    let got = g.get("/bucket/k").await;
    assert_eq!((got.body.len(), got.header("content-type"), got.header("x-amz-meta-x")), (5 * MIB + 3, "text/plain", "1"));
    let part = g.get("/bucket/k?partNumber=7").await;
    assert_eq!((part.status, part.body.as_slice(), part.header("x-amz-mp-parts-count")), (206, &b"end"[..], "2"));
    assert_eq!(part.header("content-range"), format!("bytes {}-{}/{}", 5 * MIB, 5 * MIB + 2, 5 * MIB + 3));
    assert_eq!(g.get("/bucket/k?partNumber=9").await.error(), (400, "InvalidPart"));
    assert_eq!(g.get("/bucket/k?partNumber=0").await.error(), (400, "InvalidArgument"));
    let both = g.ask("GET", "/bucket/k?partNumber=7").header("range", "bytes=0-1").send().await;
    assert_eq!(both.error(), (400, "InvalidRequest"));
    let attributes = g.ask("GET", "/bucket/k?attributes").header("x-amz-object-attributes", "ObjectParts").send().await;
    assert_eq!(attributes.element("PartsCount"), Some("2"));
}

#[tokio::test]
async fn what_is_too_small_or_unknown_is_refused() {
    let g = Gateway::with_bucket().await;
    let id = begin(&g, &[]).await;
    let target = |n: u16| format!("/bucket/k?partNumber={n}&uploadId={id}");
    let one = g.put(&target(1), "small").await.header("etag").to_owned();
    let two = g.put(&target(2), "last").await.header("etag").to_owned();
    let doc = complete(&[(1, &one), (2, &two)]);
    assert_eq!(
        g.ask("POST", &format!("/bucket/k?uploadId={id}")).body(doc.clone()).send().await.error(),
        (400, "EntityTooSmall")
    );
    assert_eq!(g.ask("POST", "/bucket/k?uploadId=nope").body(doc).send().await.error(), (404, "NoSuchUpload"));
    assert_eq!(g.put("/bucket/k?partNumber=1&uploadId=nope", "x").await.error(), (404, "NoSuchUpload"));
    assert_eq!(g.put(&format!("/bucket/k?partNumber=10001&uploadId={id}"), "x").await.error(), (400, "InvalidArgument"));
    assert_eq!(g.put(&format!("/bucket/other?partNumber=1&uploadId={id}"), "x").await.error(), (404, "NoSuchUpload"));
    assert_eq!(g.ask("DELETE", &format!("/bucket/k?uploadId={id}")).send().await.status, 204);
    assert_eq!(g.ask("DELETE", &format!("/bucket/k?uploadId={id}")).send().await.error(), (404, "NoSuchUpload"));
    assert_eq!(g.get(&format!("/bucket/k?uploadId={id}")).await.error(), (404, "NoSuchUpload"));
}

#[tokio::test]
async fn a_complete_has_conditions() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "old").await;
    let id = begin(&g, &[]).await;
    let etag = g.put(&format!("/bucket/k?partNumber=1&uploadId={id}"), "new").await.header("etag").to_owned();
    let post = |name: &str, value: &str| {
        g.ask("POST", &format!("/bucket/k?uploadId={id}")).header(name, value).body(complete(&[(1, &etag)]))
    };
    assert_eq!(post("if-none-match", "*").send().await.error(), (412, "PreconditionFailed"));
    assert_eq!(post("x-amz-mp-object-size", "9").send().await.error(), (400, "InvalidRequest"));
    assert_eq!(g.get("/bucket/k").await.body, b"old");
    assert_eq!(post("x-amz-mp-object-size", "3").send().await.status, 200);
    assert_eq!(g.get("/bucket/k").await.body, b"new");
}

#[tokio::test]
async fn checksums_of_parts_make_one_of_the_whole() {
    let g = Gateway::with_bucket().await;
    for (algorithm, kind, composite) in [(Algorithm::Crc32, "FULL_OBJECT", false), (Algorithm::Sha256, "COMPOSITE", true)] {
        let id = begin(&g, &[("x-amz-checksum-algorithm", algorithm.name()), ("x-amz-checksum-type", kind)]).await;
        let big = vec![b'b'; 5 * MIB];
        let mut document = String::new();
        for (n, body) in [(1, big.as_slice()), (2, b"end")] {
            let value = checksum(algorithm, body);
            let ask =
                g.ask("PUT", &format!("/bucket/k?partNumber={n}&uploadId={id}")).header(algorithm.header(), &value).body(body);
            let part = ask.send().await;
            assert_eq!((part.status, part.header(algorithm.header())), (200, value.as_str()));
            let name = crate::s3::checksums::element(algorithm);
            document +=
                &format!("<Part><PartNumber>{n}</PartNumber><ETag>{}</ETag><{name}>{value}</{name}></Part>", part.header("etag"));
        }
        let other = g.ask("PUT", &format!("/bucket/k?partNumber=3&uploadId={id}")).header("x-amz-checksum-crc32c", "AAAAAA==");
        assert_eq!(other.send().await.error(), (400, "InvalidRequest"));
        let document = format!("<CompleteMultipartUpload>{document}</CompleteMultipartUpload>");
        let done =
            g.ask("POST", &format!("/bucket/k?uploadId={id}")).header("x-amz-checksum-type", kind).body(document).send().await;
        assert_eq!((done.status, done.element("ChecksumType")), (200, Some(kind)), "{}", done.text());
        let got = g.ask("HEAD", "/bucket/k").header("x-amz-checksum-mode", "ENABLED").send().await;
        assert_eq!(got.header("x-amz-checksum-type"), kind);
        let whole = checksum(algorithm, &[big.as_slice(), b"end"].concat());
        if composite {
            assert!(got.header(algorithm.header()).ends_with("-2") && got.header(algorithm.header()) != whole);
        } else {
            assert_eq!(got.header(algorithm.header()), whole);
        }
        let part = g.ask("GET", "/bucket/k?partNumber=2").header("x-amz-checksum-mode", "ENABLED").send().await;
        assert_eq!(part.header(algorithm.header()), checksum(algorithm, b"end"));
    }
}

#[tokio::test]
async fn parts_are_copied_with_ranges() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/source", "0123456789").await;
    let id = begin(&g, &[]).await;
    let copy = |range: Option<&str>| {
        let ask = g.ask("PUT", &format!("/bucket/k?partNumber=1&uploadId={id}")).header("x-amz-copy-source", "bucket/source");
        match range {
            Some(range) => ask.header("x-amz-copy-source-range", range),
            None => ask,
        }
    };
    for beyond in ["bytes=0-10", "bytes=10-11"] {
        assert_eq!(copy(Some(beyond)).send().await.error(), (416, "InvalidRange"), "{beyond}");
    }
    for bad in ["0-2", "bytes=0", "bytes=5-3", "bytes=hello-world"] {
        assert_eq!(copy(Some(bad)).send().await.error(), (400, "InvalidArgument"), "{bad}");
    }
    assert_eq!(copy(None).header("x-amz-copy-source-if-match", "\"other\"").send().await.error(), (412, "PreconditionFailed"));
    let whole = copy(None).send().await;
    assert_eq!((whole.status, whole.element("ETag").unwrap().len() > 12), (200, true));
    let part = copy(Some("bytes=2-4")).send().await;
    let etag = part.element("ETag").unwrap().replace("&quot;", "\"");
    let done = g.ask("POST", &format!("/bucket/k?uploadId={id}")).body(complete(&[(1, &etag)])).send().await;
    assert_eq!(done.status, 200);
    assert_eq!(g.get("/bucket/k").await.body, b"234");
}
