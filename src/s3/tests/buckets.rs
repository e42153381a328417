use super::*;

#[tokio::test]
async fn a_bucket_lives_and_dies() {
    let g = Gateway::start().await;
    assert_eq!(g.get("/bucket").await.error(), (404, "NoSuchBucket"));
    let made = g.ask("PUT", "/bucket").send().await;
    assert_eq!((made.status, made.header("location")), (200, "/bucket"));
    let head = g.ask("HEAD", "/bucket").send().await;
    assert_eq!((head.status, head.header("x-amz-bucket-region")), (200, "us-east-1"));
    // Again by its owner: as in us-east-1. By another: taken.
    assert_eq!(g.ask("PUT", "/bucket").send().await.status, 200);
    assert_eq!(g.ask("PUT", "/bucket").by(BOB).send().await.error(), (409, "BucketAlreadyExists"));
    g.put("/bucket/k", "x").await;
    let full = g.ask("DELETE", "/bucket").send().await;
    assert_eq!((full.error(), full.element("BucketName")), ((409, "BucketNotEmpty"), Some("bucket")));
    assert_eq!(g.ask("DELETE", "/bucket/k").send().await.status, 204);
    let gone = g.ask("DELETE", "/bucket").send().await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(g.ask("DELETE", "/bucket").send().await.error(), (404, "NoSuchBucket"));
}

#[tokio::test]
async fn elsewhere_owning_a_bucket_is_an_error() {
    let g = Gateway::with(crate::s3::Settings { region: "eu-west-1".into(), ..Default::default() }).await;
    assert_eq!(g.ask("PUT", "/bucket").send().await.status, 200);
    assert_eq!(g.ask("PUT", "/bucket").send().await.error(), (409, "BucketAlreadyOwnedByYou"));
    assert_eq!(g.ask("GET", "/bucket?location").send().await.element("LocationConstraint"), None);
    assert!(g.get("/bucket?location").await.text().contains(">eu-west-1</LocationConstraint>"));
}

#[tokio::test]
async fn locations_are_kept() {
    let g = Gateway::start().await;
    let doc = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>eu-north-1</LocationConstraint></CreateBucketConfiguration>";
    assert_eq!(g.put("/north", doc).await.status, 200);
    assert!(g.get("/north?location").await.text().contains(">eu-north-1</LocationConstraint>"));
    assert_eq!(g.ask("HEAD", "/north").send().await.header("x-amz-bucket-region"), "eu-north-1");
    g.put("/plain", "").await;
    assert!(g.get("/plain?location").await.text().ends_with("2006-03-01/\"></LocationConstraint>"));
    assert_eq!(g.put("/other", "<not-xml").await.error(), (400, "MalformedXML"));
    assert_eq!(g.put("/Bad_Name", "").await.error(), (400, "InvalidBucketName"));
}

#[tokio::test]
async fn buckets_are_listed_in_pages_to_their_owner() {
    let g = Gateway::start().await;
    for name in ["aa1", "aa2", "bb1"] {
        g.put(&format!("/{name}"), "").await;
    }
    g.ask("PUT", "/bobs").by(BOB).send().await;
    let all = g.get("/").await;
    assert_eq!((all.status, all.elements("Name")), (200, vec!["aa1", "aa2", "bb1"]));
    assert_eq!((all.element("DisplayName"), all.element("ID").unwrap().len()), (Some("ann"), 64));
    assert_eq!(g.get("/?prefix=aa").await.elements("Name"), ["aa1", "aa2"]);
    let first = g.get("/?max-buckets=2").await;
    assert_eq!(first.elements("Name"), ["aa1", "aa2"]);
    let token = first.element("ContinuationToken").unwrap();
    let rest = g.get(&format!("/?max-buckets=2&continuation-token={token}")).await;
    assert_eq!((rest.elements("Name"), rest.element("ContinuationToken")), (vec!["bb1"], None));
    assert_eq!(g.get("//").await.elements("Name").len(), 3);
    assert_eq!(g.get("/?max-buckets=0").await.error(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn an_unconfigured_bucket_answers_as_aws_does() {
    let g = Gateway::with_bucket().await;
    for (sub, status, code) in [
        ("tagging", 404, "NoSuchTagSet"),
        ("cors", 404, "NoSuchCORSConfiguration"),
        ("lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("policy", 404, "NoSuchBucketPolicy"),
        ("encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"),
        ("object-lock", 404, "ObjectLockConfigurationNotFoundError"),
        ("replication", 404, "ReplicationConfigurationNotFoundError"),
        ("website", 404, "NoSuchWebsiteConfiguration"),
        ("publicAccessBlock", 404, "NoSuchPublicAccessBlockConfiguration"),
        ("ownershipControls", 404, "OwnershipControlsNotFoundError"),
        ("inventory&id=x", 404, "NoSuchConfiguration"),
        ("session", 501, "NotImplemented"),
    ] {
        let answer = g.get(&format!("/bucket?{sub}")).await;
        assert_eq!(answer.error(), (status, code), "{sub}");
        assert_eq!(answer.header("content-type"), "application/xml");
    }
    for (sub, root) in [
        ("versioning", "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></VersioningConfiguration>"),
        ("logging", "<BucketLoggingStatus"),
        ("notification", "<NotificationConfiguration"),
        ("accelerate", "<AccelerateConfiguration"),
        ("requestPayment", "<Payer>BucketOwner</Payer>"),
        ("acl", "<Permission>FULL_CONTROL</Permission>"),
        ("metrics", "<ListMetricsConfigurationsResult"),
        ("policyStatus", "<IsPublic>false</IsPublic>"),
    ] {
        let answer = g.get(&format!("/bucket?{sub}")).await;
        assert!(answer.status == 200 && answer.text().contains(root), "{sub}: {}", answer.text());
    }
    for sub in ["website", "notification"] {
        assert_eq!(g.put(&format!("/bucket?{sub}"), "<x/>").await.error(), (501, "NotImplemented"), "{sub}");
    }
    assert_eq!(g.put("/bucket?object-lock", "<x/>").await.error(), (409, "InvalidBucketState"));
    assert_eq!(g.ask("DELETE", "/bucket?cors").send().await.status, 204);
    assert_eq!(g.ask("HEAD", "/bucket").send().await.status, 200, "deleting a configuration is not deleting the bucket");
}

#[tokio::test]
async fn bucket_tags_are_kept() {
    let g = Gateway::with_bucket().await;
    let doc = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>";
    // The tag value holds an ampersand, which tags cannot.
    assert_eq!(g.put("/bucket?tagging", doc).await.error(), (400, "InvalidTag"));
    let doc = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1/2</Value></Tag></TagSet></Tagging>";
    assert_eq!(g.put("/bucket?tagging", doc).await.status, 204);
    let got = g.get("/bucket?tagging").await;
    assert_eq!((got.element("Key"), got.element("Value")), (Some("a b"), Some("1/2")));
    assert_eq!(g.ask("DELETE", "/bucket?tagging").send().await.status, 204);
    assert_eq!(g.get("/bucket?tagging").await.error(), (404, "NoSuchTagSet"));
}
