use super::*;

fn controls(name: &str) -> String {
    format!("<OwnershipControls><Rule><ObjectOwnership>{name}</ObjectOwnership></Rule></OwnershipControls>")
}

fn block(name: &str) -> String {
    format!("<PublicAccessBlockConfiguration><{name}>true</{name}></PublicAccessBlockConfiguration>")
}

fn put_acl(g: &Gateway, target: &str, canned: &str) -> gateway::Ask {
    g.ask("PUT", target).header("x-amz-acl", canned)
}

#[tokio::test]
async fn ownership_controls_are_kept() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.get("/bucket?ownershipControls").await.error(), (404, "OwnershipControlsNotFoundError"));
    for name in ["BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced"] {
        assert_eq!(g.put("/bucket?ownershipControls", controls(name)).await.status, 200);
        assert_eq!(g.get("/bucket?ownershipControls").await.element("ObjectOwnership"), Some(name));
    }
    assert_eq!(g.put("/bucket?ownershipControls", controls("Nobody")).await.error(), (400, "MalformedXML"));
    for _ in 0..2 {
        assert_eq!(g.ask("DELETE", "/bucket?ownershipControls").send().await.status, 204);
    }
    assert_eq!(g.get("/bucket?ownershipControls").await.status, 404);
    let create = |name: &str, ownership: &str| g.ask("PUT", name).header("x-amz-object-ownership", ownership);
    assert_eq!(create("/writers", "ObjectWriter").send().await.status, 200);
    assert_eq!(g.get("/writers?ownershipControls").await.element("ObjectOwnership"), Some("ObjectWriter"));
    assert_eq!(create("/writers", "BucketOwnerEnforced").send().await.error(), (409, "BucketAlreadyExists"));
    assert_eq!(create("/odd", "Mine").send().await.error(), (400, "InvalidArgument"));
    let open = create("/open", "BucketOwnerEnforced").header("x-amz-acl", "public-read");
    assert_eq!(open.send().await.error(), (400, "InvalidBucketAclWithObjectOwnership"));
    assert_eq!(g.get("/open").await.status, 404);
}

#[tokio::test]
async fn enforced_ownership_makes_lists_mean_nothing() {
    let g = Gateway::with_bucket().await;
    assert_eq!(put_acl(&g, "/bucket?acl", "public-read-write").send().await.status, 200);
    assert_eq!(put_acl(&g, "/bucket/bobs", "public-read").by(BOB).body("bob").send().await.status, 200);
    assert_eq!(put_acl(&g, "/bucket/hidden", "private").by(BOB).body("bob").send().await.status, 200);
    let enforce = || g.put("/bucket?ownershipControls", controls("BucketOwnerEnforced"));
    assert_eq!(enforce().await.error(), (400, "InvalidBucketAclWithObjectOwnership"));
    assert_eq!(put_acl(&g, "/bucket?acl", "private").send().await.status, 200);
    assert_eq!(enforce().await.status, 200);
    // All is the bucket's owner's, and the owner's alone.
    assert_eq!(g.get("/bucket/hidden").await.body, b"bob");
    assert_eq!(g.get("/bucket/hidden?acl").await.elements("DisplayName"), ["ann", "ann"]);
    assert_eq!(g.ask("GET", "/bucket/bobs").anonymous().send().await.status, 403);
    assert_eq!(g.ask("GET", "/bucket/bobs").by(BOB).send().await.status, 403);
    assert_eq!(g.get("/bucket").await.elements("DisplayName"), ["ann", "ann"]);
    let refused = (400, "AccessControlListNotSupported");
    for target in ["/bucket?acl", "/bucket/hidden?acl", "/bucket/new"] {
        for canned in ["private", "public-read"] {
            assert_eq!(put_acl(&g, target, canned).send().await.error(), refused, "{target} {canned}");
        }
        assert_eq!(put_acl(&g, target, "bucket-owner-full-control").send().await.status, 200, "{target}");
    }
    let begin = g.ask("POST", "/bucket/m?uploads").header("x-amz-acl", "private").send().await;
    assert_eq!(begin.error(), refused);
    // What is shown can be put back all the same.
    let shown = g.get("/bucket?acl").await;
    assert_eq!(g.put("/bucket?acl", shown.body).await.status, 200);
    // Without the rule the lists are what they were.
    assert_eq!(g.ask("DELETE", "/bucket?ownershipControls").send().await.status, 204);
    assert_eq!(g.ask("GET", "/bucket/bobs").anonymous().send().await.body, b"bob");
    assert_eq!(g.get("/bucket/hidden").await.status, 403);
}

#[tokio::test]
async fn a_preferred_owner_takes_what_it_is_given() {
    let g = Gateway::with_bucket().await;
    assert_eq!(put_acl(&g, "/bucket?acl", "public-read-write").send().await.status, 200);
    let full = "bucket-owner-full-control";
    assert_eq!(put_acl(&g, "/bucket/writers", full).by(BOB).send().await.status, 200);
    assert_eq!(g.get("/bucket/writers?acl").await.element("DisplayName"), Some("bob"));
    assert_eq!(g.put("/bucket?ownershipControls", controls("BucketOwnerPreferred")).await.status, 200);
    assert_eq!(put_acl(&g, "/bucket/given", full).by(BOB).send().await.status, 200);
    assert_eq!(g.get("/bucket/given?acl").await.element("DisplayName"), Some("ann"));
    assert_eq!(put_acl(&g, "/bucket/kept", "private").by(BOB).send().await.status, 200);
    assert_eq!(g.get("/bucket/kept?acl").await.status, 403);
}

#[tokio::test]
async fn a_public_access_block_is_kept() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.get("/bucket?publicAccessBlock").await.error(), (404, "NoSuchPublicAccessBlockConfiguration"));
    let names = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    for name in names {
        assert_eq!(g.put("/bucket?publicAccessBlock", block(name)).await.status, 200);
        let kept = g.get("/bucket?publicAccessBlock").await;
        for other in names {
            assert_eq!(kept.element(other), Some(if name == other { "true" } else { "false" }));
        }
    }
    assert_eq!(g.put("/bucket?publicAccessBlock", block("Else")).await.error(), (400, "MalformedXML"));
    assert_eq!(g.ask("GET", "/bucket?publicAccessBlock").by(BOB).send().await.status, 403);
    assert_eq!(g.ask("DELETE", "/bucket?publicAccessBlock").send().await.status, 204);
    assert_eq!(g.get("/bucket?publicAccessBlock").await.status, 404);
}

#[tokio::test]
async fn blocked_public_lists_are_refused() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    assert_eq!(g.put("/bucket?publicAccessBlock", block("BlockPublicAcls")).await.status, 200);
    for target in ["/bucket?acl", "/bucket/k?acl", "/bucket/new"] {
        for canned in ["public-read", "public-read-write", "authenticated-read"] {
            assert_eq!(put_acl(&g, target, canned).send().await.error(), (403, "AccessDenied"), "{target} {canned}");
        }
        assert_eq!(put_acl(&g, target, "private").send().await.status, 200, "{target}");
    }
    let copy = put_acl(&g, "/bucket/copy", "public-read").header("x-amz-copy-source", "bucket/k");
    assert_eq!(copy.send().await.error(), (403, "AccessDenied"));
    let begin = g.ask("POST", "/bucket/m?uploads").header("x-amz-acl", "public-read");
    assert_eq!(begin.send().await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn ignored_public_lists_grant_nothing() {
    let g = Gateway::with_bucket().await;
    assert_eq!(put_acl(&g, "/bucket?acl", "public-read-write").send().await.status, 200);
    assert_eq!(put_acl(&g, "/bucket/k", "public-read").body("x").send().await.status, 200);
    assert_eq!(g.ask("PUT", "/bucket/nobodys").anonymous().send().await.status, 200);
    assert_eq!(g.get("/bucket?policyStatus").await.element("IsPublic"), Some("true"));
    assert_eq!(g.put("/bucket?publicAccessBlock", block("IgnorePublicAcls")).await.status, 200);
    assert_eq!(g.get("/bucket?policyStatus").await.element("IsPublic"), Some("false"));
    assert_eq!(put_acl(&g, "/bucket?acl", "public-read-write").send().await.status, 200, "they may still be put");
    for (method, target) in [
        ("GET", "/bucket"),
        ("GET", "/bucket/k"),
        ("PUT", "/bucket/k"),
        ("GET", "/bucket/nobodys"),
        ("GET", "/bucket/nobodys?acl"),
    ] {
        assert_eq!(g.ask(method, target).anonymous().send().await.status, 403, "{method} {target}");
        assert_eq!(g.ask(method, target).by(BOB).send().await.status, 403, "{method} {target}");
    }
    assert_eq!(g.ask("DELETE", "/bucket?publicAccessBlock").send().await.status, 204);
    assert_eq!(g.ask("GET", "/bucket/k").anonymous().send().await.body, b"x");
}
