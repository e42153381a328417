//! What is refused, and under which code.
use super::*;

const KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
const KEY_MD5: &str = "DWygnHRtgiJ77HCm+1rvHw==";

#[tokio::test]
async fn encryption_that_makes_no_sense_is_an_invalid_argument() {
    let g = Gateway::with_bucket().await;
    let customer = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", KEY),
        ("x-amz-server-side-encryption-customer-key-md5", KEY_MD5),
    ];
    let put = |headers: &[(&str, &str)]| {
        headers.iter().fold(g.ask("PUT", "/bucket/k").body("x"), |ask, (name, value)| ask.header(name, value))
    };
    assert_eq!(put(&customer[1..]).send().await.error(), (400, "InvalidArgument"));
    let both = put(&customer).header("x-amz-server-side-encryption", "AES256").send().await;
    assert_eq!(both.error(), (400, "InvalidArgument"));
    let id = ("x-amz-server-side-encryption-aws-kms-key-id", "k");
    assert_eq!(put(&[id]).send().await.error(), (400, "InvalidArgument"));
    assert_eq!(g.get("/bucket/k").await.status, 404);

    g.put("/bucket/k", "x").await;
    for method in ["GET", "HEAD"] {
        let read = |name: &str, value: &str| g.ask(method, "/bucket/k").header(name, value);
        assert_eq!(read("x-amz-server-side-encryption", "aws:kms").send().await.status, 400);
        assert_eq!(read(customer[0].0, customer[0].1).send().await.status, 400);
    }
    let copy = g.ask("PUT", "/bucket/l").header("x-amz-copy-source", "bucket/k");
    let copy = copy.header("x-amz-copy-source-server-side-encryption-customer-key", KEY).send().await;
    assert_eq!(copy.error(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn a_payload_mode_that_does_not_exist_is_an_invalid_argument() {
    let g = Gateway::with_bucket().await;
    let put = g.ask("PUT", "/bucket/k").payload("not-a-hash").body("x").send().await;
    assert_eq!((put.error(), put.element("ArgumentName")), ((400, "InvalidArgument"), Some("x-amz-content-sha256")));
}

#[tokio::test]
async fn tags_are_a_set_of_at_most_ten() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.ask("PUT", "/bucket/k").header("x-amz-tagging", "foo=bar&bar").body("x").send().await.status, 200);
    assert_eq!(g.get("/bucket/k?tagging").await.elements("Key"), ["bar", "foo"]);
    let tag = |n: usize| format!("<Tag><Key>{n}</Key><Value>v</Value></Tag>");
    let tags = |n: usize| format!("<Tagging><TagSet>{}</TagSet></Tagging>", (0..n).map(tag).collect::<String>());
    assert_eq!(g.put("/bucket/k?tagging", tags(11)).await.error(), (400, "InvalidTag"));
    assert_eq!(g.get("/bucket/k?tagging").await.elements("Key").len(), 2, "nothing was changed");
    assert_eq!(g.put("/bucket/k?tagging", tags(10)).await.status, 200);
}

#[tokio::test]
async fn parts_and_ranges_that_are_not_there() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "12345").await;
    assert_eq!(g.get("/bucket/k?partNumber=2").await.error(), (400, "InvalidPart"));
    assert_eq!(g.get("/bucket/k?partNumber=1").await.body, b"12345");
    let id = g.ask("POST", "/bucket/l?uploads").send().await;
    let target = format!("/bucket/l?partNumber=1&uploadId={}", id.element("UploadId").unwrap());
    let copy = |range: &str| {
        g.ask("PUT", &target).header("x-amz-copy-source", "bucket/k").header("x-amz-copy-source-range", range).send()
    };
    assert_eq!(copy("bytes=0-21").await.error(), (416, "InvalidRange"));
    assert_eq!(copy("0-2").await.error(), (400, "InvalidArgument"));
    assert_eq!(copy("bytes=1-3").await.status, 200);
    assert_eq!(g.get("/bucket/k?torrent").await.error(), (404, "NoSuchKey"));
}
