//! The Rust SDK of AWS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, MetadataDirective, ObjectIdentifier,
};
use compat_tests::{ACCESS_KEY, Gateway, SECRET_KEY};

fn client(gateway: &Gateway) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&gateway.endpoint)
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn everyday_calls() {
    let gateway = Gateway::start("");
    let s3 = client(&gateway);
    s3.create_bucket().bucket("sdk").send().await.unwrap();
    let again = s3.create_bucket().bucket("sdk").send().await;
    // AWS answers 200 in us-east-1 and BucketAlreadyOwnedByYou elsewhere.
    if let Err(error) = again {
        assert_eq!(error.code(), Some("BucketAlreadyOwnedByYou"));
    }

    let body = vec![7_u8; 300_000];
    let put = s3
        .put_object()
        .bucket("sdk")
        .key("dir/ü +.bin")
        .content_type("text/x-test")
        .metadata("colour", "blue")
        .body(ByteStream::from(body.clone()))
        .send()
        .await
        .unwrap();
    // The SDK's default integrity checksum.
    assert!(put.checksum_crc32().is_some());
    let got = s3.get_object().bucket("sdk").key("dir/ü +.bin").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(got.content_type(), Some("text/x-test"));
    assert_eq!(got.metadata().unwrap()["colour"], "blue");
    assert_eq!(got.checksum_crc32(), put.checksum_crc32());
    assert_eq!(got.e_tag(), put.e_tag());
    assert_eq!(got.body.collect().await.unwrap().to_vec(), body);

    let ranged = s3.get_object().bucket("sdk").key("dir/ü +.bin").range("bytes=10-19").send().await.unwrap();
    assert_eq!(ranged.content_range(), Some("bytes 10-19/300000"));
    assert_eq!(ranged.body.collect().await.unwrap().to_vec(), body[10..20]);

    let copy = s3
        .copy_object()
        .bucket("sdk")
        .key("copy")
        .copy_source("sdk/dir/%C3%BC%20%2B.bin")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("colour", "red")
        .send()
        .await
        .unwrap();
    assert_eq!(copy.copy_object_result().unwrap().e_tag(), put.e_tag());
    let head = s3.head_object().bucket("sdk").key("copy").send().await.unwrap();
    assert_eq!((head.content_length(), head.metadata().unwrap()["colour"].as_str()), (Some(300_000), "red"));

    let page = s3.list_objects_v2().bucket("sdk").delimiter("/").send().await.unwrap();
    assert_eq!(page.common_prefixes()[0].prefix(), Some("dir/"));
    assert_eq!(page.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(), ["copy"]);

    let ids = ["copy", "dir/ü +.bin", "nobody"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let deleted = s3
        .delete_objects()
        .bucket("sdk")
        .delete(Delete::builder().set_objects(Some(ids.to_vec())).build().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (3, 0));
    s3.delete_bucket().bucket("sdk").send().await.unwrap();
    let gone = s3.head_bucket().bucket("sdk").send().await.unwrap_err();
    assert!(gone.into_service_error().is_not_found());
}

#[tokio::test]
async fn errors_by_their_types() {
    let gateway = Gateway::start("");
    let s3 = client(&gateway);
    let missing = s3.get_object().bucket("nobody").key("k").send().await.unwrap_err();
    assert_eq!(missing.code(), Some("NoSuchBucket"));
    s3.create_bucket().bucket("sdk").send().await.unwrap();
    let missing = s3.get_object().bucket("sdk").key("k").send().await.unwrap_err().into_service_error();
    assert!(missing.is_no_such_key());
    s3.put_object().bucket("sdk").key("k").if_none_match("*").send().await.unwrap();
    let taken = s3.put_object().bucket("sdk").key("k").if_none_match("*").send().await.unwrap_err();
    assert_eq!(taken.code(), Some("PreconditionFailed"));
}

#[tokio::test]
async fn a_multipart_upload() {
    for (algorithm, config) in
        [(ChecksumAlgorithm::Crc32, ""), (ChecksumAlgorithm::Sha256, "[default_mount]\nprovider = \"memory\"\n")]
    {
        let gateway = Gateway::start(config);
        let s3 = client(&gateway);
        s3.create_bucket().bucket("sdk").send().await.unwrap();
        let upload =
            s3.create_multipart_upload().bucket("sdk").key("m").checksum_algorithm(algorithm.clone()).send().await.unwrap();
        let bodies = [vec![1_u8; 5 << 20], vec![2_u8; 5 << 20], vec![3_u8; 10]];
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            let part = s3
                .upload_part()
                .bucket("sdk")
                .key("m")
                .upload_id(upload.upload_id().unwrap())
                .part_number(number)
                .checksum_algorithm(algorithm.clone())
                .body(ByteStream::from(body.clone()))
                .send()
                .await
                .unwrap();
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(part.e_tag().map(Into::into))
                    .set_checksum_crc32(part.checksum_crc32().map(Into::into))
                    .set_checksum_sha256(part.checksum_sha256().map(Into::into))
                    .build(),
            );
        }
        let done = s3
            .complete_multipart_upload()
            .bucket("sdk")
            .key("m")
            .upload_id(upload.upload_id().unwrap())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .unwrap();
        assert!(done.e_tag().unwrap().ends_with("-3\""));
        let got = s3.get_object().bucket("sdk").key("m").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), bodies.concat());
    }
}
