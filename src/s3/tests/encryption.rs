//! What is encrypted, as clients see it.
use super::gateway::Ask;
use super::*;

const MIB: usize = 1024 * 1024;
const ALGORITHM: &str = "server-side-encryption-customer-algorithm";
const KEY: &str = "server-side-encryption-customer-key";
const MD5: &str = "server-side-encryption-customer-key-md5";
const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// With a customer's key, of bytes that are all the same.
trait With {
    fn with_key(self, byte: u8) -> Self;
    fn with_source_key(self, byte: u8) -> Self;
}

impl With for Ask {
    fn with_key(self, byte: u8) -> Self {
        keyed(self, "x-amz-", byte)
    }
    fn with_source_key(self, byte: u8) -> Self {
        keyed(self, "x-amz-copy-source-", byte)
    }
}

fn keyed(ask: Ask, prefix: &str, byte: u8) -> Ask {
    let key = [byte; 32];
    ask.header(&format!("{prefix}{ALGORITHM}"), "AES256")
        .header(&format!("{prefix}{KEY}"), &base64(&key))
        .header(&format!("{prefix}{MD5}"), &md5(&key))
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 251 + at) as u8).collect()
}

#[tokio::test]
async fn a_customers_key_is_needed_each_time() {
    let g = Gateway::with_bucket().await;
    let text = content(200_000);
    let put = g.ask("PUT", "/bucket/k").with_key(1).header("x-amz-checksum-algorithm", "SHA256").body(text.clone()).send().await;
    assert_eq!((put.status, put.header(&format!("x-amz-{ALGORITHM}"))), (200, "AES256"));
    assert_eq!(put.header(&format!("x-amz-{MD5}")), md5(&[1; 32]));
    assert_ne!(put.header("etag"), format!("\"{}\"", crate::transfer::md5_hex(&text)));
    for (target, method) in [("/bucket/k", "GET"), ("/bucket/k", "HEAD")] {
        assert_eq!(g.ask(method, target).send().await.status, 400);
        assert_eq!(g.ask(method, target).with_key(2).send().await.status, 403);
    }
    assert_eq!(g.get("/bucket/k").await.error(), (400, "InvalidRequest"));
    let got = g.ask("GET", "/bucket/k").with_key(1).send().await;
    assert_eq!((got.status, got.body == text, got.header("content-length")), (200, true, "200000"));
    let head = g.ask("HEAD", "/bucket/k").with_key(1).send().await;
    assert_eq!((head.status, head.header("content-length"), head.header("etag")), (200, "200000", put.header("etag")));
    let part = g.ask("GET", "/bucket/k").with_key(1).header("range", "bytes=65530-65545").send().await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 65530-65545/200000"));
    assert_eq!(part.body, text[65_530..65_546]);
    let last = g.ask("GET", "/bucket/k").with_key(1).header("range", "bytes=-5").send().await;
    assert_eq!(last.body, text[199_995..]);
    let beyond = g.ask("GET", "/bucket/k").with_key(1).header("range", "bytes=200000-").send().await;
    assert_eq!((beyond.error(), beyond.header("content-range")), ((416, "InvalidRange"), "bytes */200000"));
    // Lists, tags and attributes need no key, and sizes are those of the content.
    assert_eq!(g.get("/bucket?list-type=2").await.element("Size"), Some("200000"));
    assert_eq!(g.get("/bucket?versions").await.element("Size"), Some("200000"));
    assert_eq!(g.get("/bucket/k?tagging").await.status, 200);
    let told = g.ask("GET", "/bucket/k?attributes").header("x-amz-object-attributes", "ObjectSize,ETag");
    assert_eq!(told.clone().send().await.status, 400);
    assert_eq!(told.with_key(1).send().await.element("ObjectSize"), Some("200000"));
    // A key for what is not encrypted.
    g.put("/bucket/plain", "x").await;
    assert_eq!(g.ask("GET", "/bucket/plain").with_key(1).send().await.error(), (400, "InvalidRequest"));
    // Conditions hold.
    let etag = put.header("etag").to_owned();
    assert_eq!(g.ask("GET", "/bucket/k").with_key(1).header("if-none-match", &etag).send().await.status, 304);
    assert_eq!(g.ask("PUT", "/bucket/k").header("if-match", "\"x\"").body("y").send().await.status, 412);
    assert_eq!(g.ask("PUT", "/bucket/k").header("if-match", &etag).body("y").send().await.status, 200);
    assert_eq!(g.get("/bucket/k").await.body, b"y");
}

#[tokio::test]
async fn the_gateways_key_and_named_keys() {
    let g = Gateway::with_bucket().await;
    for bytes in [0, 1, 65_536, 65_537, 3 * MIB] {
        let text = content(bytes);
        let etag = format!("\"{}\"", crate::transfer::md5_hex(&text));
        let put = g.ask("PUT", "/bucket/s3").header(METHOD, "AES256").body(text.clone()).send().await;
        assert_eq!((put.status, put.header(METHOD), put.header("etag")), (200, "AES256", etag.as_str()));
        let got = g.get("/bucket/s3").await;
        assert_eq!((got.status, got.header(METHOD), got.body == text), (200, "AES256", true), "{bytes}");
        let put = g.ask("PUT", "/bucket/kms").header(METHOD, "aws:kms").header(KMS_KEY, "one").body(text.clone()).send().await;
        assert_eq!((put.status, put.header(METHOD), put.header(KMS_KEY)), (200, "aws:kms", "one"));
        assert_ne!(put.header("etag"), etag);
        let got = g.get("/bucket/kms").await;
        assert_eq!((got.status, got.header(KMS_KEY), got.body == text), (200, "one", true), "{bytes}");
    }
    let kms = |ask: Ask| ask.header(METHOD, "aws:kms").body("x");
    let none = kms(g.ask("PUT", "/bucket/k")).send().await;
    assert_eq!((none.status, none.header(KMS_KEY)), (200, "aws/s3"), "the gateway's own");
    assert_eq!(g.get("/bucket/k").await.body, b"x");
    let unknown = kms(g.ask("PUT", "/bucket/k")).header(KMS_KEY, "three").send().await;
    assert_eq!(unknown.error(), (400, "KMS.NotFoundException"));
    let context = kms(g.ask("PUT", "/bucket/k")).header(KMS_KEY, "two");
    let context = context.header("x-amz-server-side-encryption-context", &base64(br#"{"a":"b"}"#)).send().await;
    assert_eq!(context.status, 200);
    assert_eq!(g.get("/bucket/k").await.body, b"x");
}

#[tokio::test]
async fn a_bucket_has_a_default() {
    let g = Gateway::with_bucket().await;
    let document = |algorithm: &str, key: &str| {
        format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{algorithm}</SSEAlgorithm>{key}\
             </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        )
    };
    let missing = (404, "ServerSideEncryptionConfigurationNotFoundError");
    assert_eq!(g.get("/bucket?encryption").await.error(), missing);
    assert_eq!(g.put("/bucket?encryption", document("AES256", "")).await.status, 200);
    assert_eq!(g.get("/bucket?encryption").await.element("SSEAlgorithm"), Some("AES256"));
    assert_eq!(g.put("/bucket?encryption", document("DES", "")).await.error(), (400, "MalformedXML"));
    assert_eq!(g.put("/bucket/a", "x").await.header(METHOD), "AES256");
    let key = "<KMSMasterKeyID>two</KMSMasterKeyID>";
    assert_eq!(g.put("/bucket?encryption", document("aws:kms", key)).await.status, 200);
    assert_eq!(g.put("/bucket/b", "x").await.header(KMS_KEY), "two");
    assert_eq!(g.ask("PUT", "/bucket/c").header(METHOD, "AES256").body("x").send().await.header(METHOD), "AES256");
    let copied = g.ask("PUT", "/bucket/d").header("x-amz-copy-source", "bucket/a").send().await;
    assert_eq!((copied.status, copied.header(KMS_KEY)), (200, "two"));
    let begun = g.ask("POST", "/bucket/e?uploads").send().await;
    assert_eq!((begun.status, begun.header(METHOD)), (200, "aws:kms"));
    assert_eq!(g.ask("DELETE", "/bucket?encryption").send().await.status, 204);
    assert_eq!(g.get("/bucket?encryption").await.error(), missing);
    assert_eq!(g.put("/bucket/f", "x").await.header(METHOD), "");
    for key in ["a", "b", "c", "d", "f"] {
        assert_eq!(g.get(&format!("/bucket/{key}")).await.body, b"x");
    }
}

#[tokio::test]
async fn an_upload_in_parts_with_a_customers_key() {
    let g = Gateway::with_bucket().await;
    let begun = g.ask("POST", "/bucket/k?uploads").with_key(1).send().await;
    assert_eq!((begun.status, begun.header(&format!("x-amz-{ALGORITHM}"))), (200, "AES256"));
    let id = begun.element("UploadId").unwrap().to_owned();
    let whole = content(5 * MIB + 100_000);
    let part = |n: u16, key: Option<u8>, body: &[u8]| {
        let ask = g.ask("PUT", &format!("/bucket/k?partNumber={n}&uploadId={id}")).body(body);
        key.into_iter().fold(ask, |ask, key| ask.with_key(key)).send()
    };
    assert_eq!(part(1, None, b"x").await.error(), (400, "InvalidRequest"));
    assert_eq!(part(1, Some(2), b"x").await.error(), (400, "InvalidRequest"));
    let first = part(1, Some(1), &whole[..5 * MIB]).await;
    assert_eq!(first.status, 200);
    // A part out of another object, with a key of its own.
    let source = g.ask("PUT", "/bucket/source").with_key(3).body(whole.clone()).send().await;
    assert_eq!(source.status, 200);
    let copy = g.ask("PUT", &format!("/bucket/k?partNumber=4&uploadId={id}")).header("x-amz-copy-source", "bucket/source");
    let range = format!("bytes={}-{}", 5 * MIB, whole.len() - 1);
    let copied = copy.header("x-amz-copy-source-range", &range).with_source_key(3).with_key(1).send().await;
    assert_eq!(copied.status, 200);
    let sizes = g.get(&format!("/bucket/k?uploadId={id}")).await;
    assert_eq!(sizes.elements("Size"), [(5 * MIB).to_string(), "100000".to_owned()]);
    let named = [(1, first.header("etag").to_owned()), (4, copied.element("ETag").unwrap().replace("&quot;", "\""))];
    let named =
        named.map(|(n, etag)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{}</ETag></Part>", etag.replace('"', "&quot;")));
    let document = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", named.concat());
    let done = g.ask("POST", &format!("/bucket/k?uploadId={id}")).body(document).send().await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(g.get("/bucket/k").await.error(), (400, "InvalidRequest"));
    let got = g.ask("GET", "/bucket/k").with_key(1).send().await;
    assert_eq!((got.status, got.body == whole), (200, true));
    for (range, due) in [("bytes=5242870-5242889", 5_242_870..5_242_890), ("bytes=5300000-5300009", 5_300_000..5_300_010)] {
        let got = g.ask("GET", "/bucket/k").with_key(1).header("range", range).send().await;
        assert_eq!((got.status, got.body == whole[due]), (206, true), "{range}");
    }
    let second = g.ask("GET", "/bucket/k?partNumber=4").with_key(1).send().await;
    assert_eq!((second.status, second.body == whole[5 * MIB..], second.header("x-amz-mp-parts-count")), (206, true, "2"));
    assert_eq!(g.get("/bucket?prefix=k").await.element("Size"), Some(whole.len().to_string().as_str()));
}

#[tokio::test]
async fn copies_are_encrypted_as_they_ask() {
    let g = Gateway::with_bucket().await;
    let text = content(70_000);
    g.ask("PUT", "/bucket/c").with_key(1).header("x-amz-meta-a", "b").body(text.clone()).send().await;
    g.ask("PUT", "/bucket/s").header(METHOD, "AES256").body(text.clone()).send().await;
    g.put("/bucket/p", text.clone()).await;
    let copy =
        |from: &str, to: &str| g.ask("PUT", &format!("/bucket/{to}")).header("x-amz-copy-source", &format!("bucket/{from}"));
    assert_eq!(copy("c", "x").send().await.error(), (400, "InvalidRequest"), "the source's key is missing");
    assert_eq!(copy("c", "x").with_source_key(2).send().await.error(), (403, "AccessDenied"));
    assert_eq!(copy("p", "x").with_source_key(2).send().await.error(), (400, "InvalidRequest"));
    assert_eq!(copy("c", "plain").with_source_key(1).send().await.status, 200);
    let plain = g.get("/bucket/plain").await;
    assert_eq!((plain.body == text, plain.header(METHOD), plain.header("x-amz-meta-a")), (true, "", "b"));
    assert_eq!(plain.header("etag"), format!("\"{}\"", crate::transfer::md5_hex(&text)));
    assert_eq!(copy("c", "other").with_source_key(1).with_key(2).send().await.status, 200);
    assert!(g.ask("GET", "/bucket/other").with_key(2).send().await.body == text);
    let kms = copy("s", "kms").header(METHOD, "aws:kms").header(KMS_KEY, "one").send().await;
    assert_eq!((kms.status, kms.header(METHOD)), (200, "aws:kms"));
    assert!(g.get("/bucket/kms").await.body == text);
    // Onto itself, to be wrapped anew.
    assert_eq!(copy("s", "s").header(METHOD, "AES256").send().await.status, 200);
    assert!(g.get("/bucket/s").await.body == text);
    assert_eq!(copy("s", "s").send().await.error(), (400, "InvalidRequest"));
}

#[tokio::test]
async fn versions_keep_their_keys() {
    let g = Gateway::with_bucket().await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(g.put("/bucket?versioning", on).await.status, 200);
    let first = g.ask("PUT", "/bucket/k").with_key(1).body("first").send().await;
    let second = g.ask("PUT", "/bucket/k").header(METHOD, "AES256").body("second!").send().await;
    let version = |answer: &Answer| answer.header("x-amz-version-id").to_owned();
    let (first, second) = (version(&first), version(&second));
    assert_eq!(g.ask("GET", &format!("/bucket/k?versionId={first}")).with_key(1).send().await.body, b"first");
    assert_eq!(g.get(&format!("/bucket/k?versionId={first}")).await.error(), (400, "InvalidRequest"));
    assert_eq!(g.get(&format!("/bucket/k?versionId={second}")).await.body, b"second!");
    assert_eq!(g.get("/bucket?versions").await.elements("Size"), ["7", "5"]);
    assert_eq!(g.ask("DELETE", &format!("/bucket/k?versionId={second}")).send().await.status, 204);
    assert_eq!(g.ask("GET", "/bucket/k").with_key(1).send().await.body, b"first");
}
