use super::*;

#[tokio::test]
async fn copies_keep_or_replace() {
    let g = Gateway::with_bucket().await;
    let put = g
        .ask("PUT", "/bucket/a%20b")
        .header("content-type", "text/plain")
        .header("x-amz-meta-x", "1")
        .header("x-amz-tagging", "t=1");
    let etag = put.header("x-amz-website-redirect-location", "/r").body("hello").send().await.header("etag").to_owned();
    let copy = |target: &str| g.ask("PUT", target).header("x-amz-copy-source", "/bucket/a%20b");
    let done = copy("/bucket/c1").send().await;
    assert_eq!((done.status, done.element("ETag")), (200, Some("&quot;5d41402abc4b2a76b9719d911017c592&quot;")));
    let c1 = g.get("/bucket/c1").await;
    assert_eq!((c1.body.as_slice(), c1.header("content-type"), c1.header("x-amz-meta-x")), (&b"hello"[..], "text/plain", "1"));
    assert_eq!((c1.header("x-amz-tagging-count"), c1.header("x-amz-website-redirect-location")), ("1", ""));
    let replaced = copy("/bucket/c2").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-y", "2").send().await;
    assert_eq!(replaced.status, 200);
    let c2 = g.get("/bucket/c2").await;
    assert_eq!(
        (c2.header("x-amz-meta-x"), c2.header("x-amz-meta-y"), c2.header("content-type")),
        ("", "2", "binary/octet-stream")
    );
    assert_eq!(c2.header("x-amz-tagging-count"), "1", "tags have a directive of their own");
    copy("/bucket/c3").header("x-amz-tagging-directive", "REPLACE").header("x-amz-tagging", "a=1&b=2").send().await;
    let c3 = g.get("/bucket/c3").await;
    assert_eq!((c3.header("x-amz-tagging-count"), c3.header("x-amz-meta-x")), ("2", "1"));
    // Onto itself only with a change.
    let itself = copy("/bucket/a%20b").send().await;
    assert_eq!(itself.error(), (400, "InvalidRequest"));
    assert!(
        itself
            .element("Message")
            .unwrap()
            .starts_with("This copy request is illegal because it is trying to copy an object to itself")
    );
    assert_eq!(
        copy("/bucket/a%20b").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-z", "3").send().await.status,
        200
    );
    let changed = g.ask("HEAD", "/bucket/a%20b").send().await;
    assert_eq!(
        (changed.header("x-amz-meta-z"), changed.header("x-amz-meta-x"), changed.header("etag")),
        ("3", "", etag.as_str())
    );
    assert_eq!(copy("/bucket/c4").header("x-amz-metadata-directive", "ODD").send().await.error(), (400, "InvalidArgument"));
    let class = copy("/bucket/c5").header("x-amz-storage-class", "REDUCED_REDUNDANCY").send().await;
    assert_eq!((class.status, g.get("/bucket/c5").await.header("x-amz-storage-class")), (200, "REDUCED_REDUNDANCY"));
}

#[tokio::test]
async fn copies_across_buckets_and_from_nowhere() {
    let g = Gateway::with_bucket().await;
    g.put("/other", "").await;
    g.put("/bucket/k", "x").await;
    let copy = |source: &str| g.ask("PUT", "/other/c").header("x-amz-copy-source", source);
    assert_eq!(copy("bucket/k").send().await.status, 200);
    assert_eq!(g.get("/other/c").await.body, b"x");
    assert_eq!(copy("bucket/k?versionId=null").send().await.status, 200);
    let none = copy("bucket/none").send().await;
    assert_eq!((none.error(), none.element("Key")), ((404, "NoSuchKey"), Some("none")));
    let none = copy("nobucket/k").send().await;
    assert_eq!((none.error(), none.element("BucketName")), ((404, "NoSuchBucket"), Some("nobucket")));
    assert_eq!(copy("bucket").send().await.error(), (400, "InvalidArgument"));
    assert_eq!(copy("bucket/k?versionId=x").send().await.error(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn conditions_on_source_and_destination() {
    let g = Gateway::with_bucket().await;
    let etag = g.put("/bucket/k", "x").await.header("etag").to_owned();
    let modified = g.ask("HEAD", "/bucket/k").send().await.header("last-modified").to_owned();
    let copy = async |name: &str, value: &str| {
        g.ask("PUT", "/bucket/c").header("x-amz-copy-source", "bucket/k").header(name, value).send().await.error().0
    };
    assert_eq!(copy("x-amz-copy-source-if-match", "\"other\"").await, 412);
    assert_eq!(copy("x-amz-copy-source-if-none-match", &etag).await, 412);
    assert_eq!(copy("x-amz-copy-source-if-modified-since", &modified).await, 412);
    assert_eq!(copy("x-amz-copy-source-if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT").await, 412);
    assert_eq!(copy("x-amz-copy-source-if-match", &etag).await, 200);
    assert_eq!(copy("if-none-match", "*").await, 412);
    assert_eq!(copy("if-match", "\"other\"").await, 412);
    assert_eq!(copy("if-match", &etag).await, 200);
}
