use super::*;
use crate::transfer::Algorithm;

/// Asserts that a write was refused and that nothing came of it.
async fn refused(g: &Gateway, answer: Answer, error: (u16, &str)) {
    assert_eq!(answer.error(), error);
    assert_eq!(g.get("/bucket/k").await.error(), (404, "NoSuchKey"), "{error:?} left something behind");
}

#[tokio::test]
async fn a_body_that_is_not_what_was_declared_is_not_stored() {
    let g = Gateway::with_bucket().await;
    let put = || g.ask("PUT", "/bucket/k").body("hello");
    refused(&g, put().header("content-md5", &md5(b"other")).send().await, (400, "BadDigest")).await;
    refused(&g, put().header("content-md5", "nonsense").send().await, (400, "InvalidDigest")).await;
    refused(&g, put().payload(&sha256_hex(b"other")).send().await, (400, "XAmzContentSHA256Mismatch")).await;
    refused(&g, put().header("x-amz-checksum-crc32c", "AAAAAA==").send().await, (400, "BadDigest")).await;
    refused(&g, put().header("x-amz-checksum-crc32c", "A").send().await, (400, "BadDigest")).await;
    refused(&g, put().header("x-amz-sdk-checksum-algorithm", "CRC32").send().await, (400, "InvalidRequest")).await;
    refused(&g, put().header("x-amz-meta-big", &"x".repeat(2048)).send().await, (400, "MetadataTooLarge")).await;
    refused(&g, put().header("x-amz-storage-class", "X").send().await, (400, "InvalidStorageClass")).await;
    refused(&g, put().header("x-amz-server-side-encryption", "aws:kms:dsse").send().await, (501, "NotImplemented")).await;
    refused(&g, put().header("x-amz-server-side-encryption", "aes:kms").send().await, (400, "InvalidArgument")).await;
    refused(&g, put().header("x-amz-trailer", "x-amz-checksum-crc32").send().await, (400, "InvalidRequest")).await;
    assert_eq!(put().header("content-md5", &md5(b"hello")).send().await.status, 200);
}

#[tokio::test]
async fn a_body_has_a_length() {
    let g = Gateway::with_bucket().await;
    let bare = g.ask("PUT", "/bucket/k").without_length();
    refused(&g, bare.clone().payload("UNSIGNED-PAYLOAD").send().await, (411, "MissingContentLength")).await;
    refused(&g, bare.send().await, (411, "MissingContentLength")).await;
    let chunked = g.ask("PUT", "/bucket/k").without_length().payload("UNSIGNED-PAYLOAD").late("transfer-encoding", "chunked");
    refused(&g, chunked.body("5\r\nhello\r\n0\r\n\r\n").send().await, (411, "MissingContentLength")).await;
    let settings = crate::s3::Settings { max_write_size_bytes: 9, ..Default::default() };
    let g = Gateway::with(settings).await;
    g.put("/bucket", "").await;
    refused(&g, g.put("/bucket/k", "0123456789").await, (400, "EntityTooLarge")).await;
    assert_eq!(g.put("/bucket/k", "012345678").await.status, 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/old", "old").await;
    g.ask("PUT", "/bucket/old").body(vec![b'n'; 100_000]).send_cut(50_000).await;
    g.ask("PUT", "/bucket/old").payload("UNSIGNED-PAYLOAD").body(vec![b'n'; 100_000]).send_cut(99_999).await;
    assert_eq!(g.get("/bucket/old").await.body, b"old");
}

#[tokio::test]
async fn signed_chunks_are_decoded_and_must_end() {
    let g = Gateway::with_bucket().await;
    let body: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let put = || g.ask("PUT", "/bucket/k").header("content-encoding", "aws-chunked,gzip").body(body.clone());
    refused(&g, put().send_chunked(65_536, false).await, (400, "IncompleteBody")).await;
    let stored = put().send_chunked(65_536, true).await;
    assert_eq!((stored.status, stored.header("etag")), (200, format!("\"{}\"", crate::transfer::md5_hex(&body)).as_str()));
    let got = g.get("/bucket/k").await;
    assert!(got.body == body, "the framing is not part of the object");
    assert_eq!(got.header("content-encoding"), "gzip");
    assert_eq!(g.ask("PUT", "/bucket/k").header("content-encoding", "deflate, gzip").body("x").send().await.status, 200);
    assert_eq!(g.get("/bucket/k").await.header("content-encoding"), "deflate, gzip");
    assert_eq!(g.ask("PUT", "/bucket/empty").send_chunked(10, true).await.status, 200);
    assert_eq!(g.ask("PUT", "/bucket/empty").send_chunked(10, false).await.error(), (400, "IncompleteBody"));
}

#[tokio::test]
async fn trailers_must_come_and_be_true() {
    let g = Gateway::with_bucket().await;
    let put = || g.ask("PUT", "/bucket/k").body("hello");
    let (name, value) = ("x-amz-checksum-crc64nvme", checksum(Algorithm::Crc64Nvme, b"hello"));
    refused(&g, put().send_with_trailer(name, "").await, (400, "MalformedTrailerError")).await;
    refused(&g, put().send_with_trailer(name, "x-amz-checksum-crc32:AAAAAA==\r\n").await, (400, "MalformedTrailerError")).await;
    refused(&g, put().send_with_trailer(name, "x-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n").await, (400, "BadDigest")).await;
    refused(&g, put().send_with_trailer("x-amz-meta-x", "x-amz-meta-x:1\r\n").await, (400, "InvalidRequest")).await;
    let stored = put().send_with_trailer(name, &format!("{name}:{value}\r\n")).await;
    assert_eq!((stored.status, stored.header(name)), (200, value.as_str()));
    let got = g.ask("GET", "/bucket/k").header("x-amz-checksum-mode", "ENABLED").send().await;
    assert_eq!((got.body.as_slice(), got.header(name), got.header("content-encoding")), (&b"hello"[..], value.as_str(), ""));
}

#[tokio::test]
async fn framing_that_nobody_decoded_is_refused() {
    let g = Gateway::with_bucket().await;
    let framed = "5\r\nhello\r\n0\r\n\r\n";
    let put = || g.ask("PUT", "/bucket/k").body(framed);
    let anonymous = put().anonymous().header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    refused(&g, anonymous.header("x-amz-decoded-content-length", "5").send().await, (403, "AccessDenied")).await;
    let unsigned = put().payload("UNSIGNED-PAYLOAD").header("content-encoding", "aws-chunked");
    refused(&g, unsigned.send().await, (400, "InvalidRequest")).await;
    let decoded = put().payload("UNSIGNED-PAYLOAD").header("x-amz-decoded-content-length", "5");
    refused(&g, decoded.send().await, (400, "InvalidRequest")).await;
    let url = put().presigned(60, time::OffsetDateTime::now_utc()).late("content-encoding", "aws-chunked");
    refused(&g, url.send().await, (400, "InvalidRequest")).await;
    // Who signs the hash of these bytes means these bytes.
    let meant = put().header("content-encoding", "gzip,aws-chunked").send().await;
    assert_eq!(meant.status, 200);
    assert_eq!(g.get("/bucket/k").await.body, framed.as_bytes());
}

#[tokio::test]
async fn unicode_metadata_comes_back_as_an_encoded_word() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.ask("PUT", "/bucket/k").header("x-amz-meta-name", "grüße").body("x").send().await.status, 200);
    assert_eq!(g.ask("HEAD", "/bucket/k").send().await.header("x-amz-meta-name"), "=?UTF-8?B?Z3LDvMOfZQ==?=");
}

#[tokio::test]
async fn xml_has_a_limit() {
    let settings = crate::s3::Settings { max_xml_size_bytes: 100, ..Default::default() };
    let g = Gateway::with(settings).await;
    g.put("/bucket", "").await;
    assert_eq!(g.put("/bucket?tagging", "x".repeat(101)).await.error(), (400, "MaxMessageLengthExceeded"));
    assert_eq!(g.put("/bucket?tagging", "").await.error(), (400, "MissingRequestBodyError"));
}
