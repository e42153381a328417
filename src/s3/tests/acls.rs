use super::*;

const EVERYBODY: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

async fn id(g: &Gateway, who: (&'static str, &'static str)) -> String {
    g.ask("GET", "/").by(who).send().await.element("ID").unwrap().to_owned()
}

async fn acl(g: &Gateway, target: &str, canned: &str) {
    let target = format!("{target}?acl");
    assert_eq!(g.ask("PUT", &target).header("x-amz-acl", canned).send().await.status, 200, "{canned}");
}

fn grant(grantee: &str, permission: &str) -> String {
    format!("<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>")
}

fn policy(owner: &str, grants: &str) -> String {
    format!(
        "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>{owner}</ID></Owner>\
         <AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    )
}

#[tokio::test]
async fn what_is_shown_can_be_put_back() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    for target in ["/bucket?acl", "/bucket/k?acl"] {
        let shown = g.get(target).await;
        assert_eq!((shown.status, shown.element("DisplayName")), (200, Some("ann")));
        assert_eq!(shown.elements("Permission"), ["FULL_CONTROL"]);
        assert_eq!(g.put(target, shown.body.clone()).await.status, 200);
        assert_eq!(g.ask("PUT", target).header("x-amz-acl", "public-read").send().await.status, 200);
        let shown = g.get(target).await;
        assert_eq!((shown.elements("Permission"), shown.element("URI")), (vec!["READ", "FULL_CONTROL"], Some(EVERYBODY)));
        assert_eq!(g.put(target, shown.body.clone()).await.status, 200);
        assert_eq!(g.get(target).await.body, shown.body);
    }
    let bob = id(&g, BOB).await;
    let by_id = grant(&format!("<ID>{bob}</ID>"), "READ_ACP");
    let ann = id(&g, ANN).await;
    assert_eq!(g.put("/bucket?acl", policy(&ann, &by_id)).await.status, 200);
    let shown = g.ask("GET", "/bucket?acl").by(BOB).send().await;
    assert_eq!((shown.elements("DisplayName"), shown.elements("Permission")), (vec!["ann", "bob"], vec!["READ_ACP"]));
}

#[tokio::test]
async fn a_public_bucket_is_listed_and_not_read() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "x").await;
    acl(&g, "/bucket", "public-read").await;
    for who in [None, Some(BOB)] {
        let ask = |method: &str, target: &str| {
            let ask = g.ask(method, target);
            who.map_or_else(|| ask.clone().anonymous(), |key| ask.clone().by(key))
        };
        for target in ["/bucket", "/bucket?list-type=2&fetch-owner=true", "/bucket?versions"] {
            let listed = ask("GET", target).send().await;
            assert_eq!((listed.elements("Key"), listed.element("DisplayName")), (vec!["k"], Some("ann")), "{target}");
        }
        assert_eq!(ask("HEAD", "/bucket").send().await.status, 200);
        assert_eq!(ask("GET", "/bucket?uploads").send().await.status, 200);
        // Missing objects are told as missing to whoever may list.
        assert_eq!(ask("GET", "/bucket/none").send().await.error(), (404, "NoSuchKey"));
        assert_eq!(ask("HEAD", "/bucket/none").send().await.status, 404);
        for (method, target) in [
            ("GET", "/bucket/k"),
            ("HEAD", "/bucket/k"),
            ("PUT", "/bucket/k"),
            ("DELETE", "/bucket/k"),
            ("POST", "/bucket?delete"),
            ("POST", "/bucket/k?uploads"),
            ("GET", "/bucket?acl"),
            ("PUT", "/bucket?acl"),
            ("GET", "/bucket/k?acl"),
            ("GET", "/bucket/k?tagging"),
            ("GET", "/bucket?location"),
            ("GET", "/bucket?ownershipControls"),
            ("DELETE", "/bucket"),
        ] {
            assert_eq!(ask(method, target).send().await.status, 403, "{method} {target}");
        }
    }
}

#[tokio::test]
async fn a_public_object_is_read_in_a_private_bucket() {
    let g = Gateway::with_bucket().await;
    let stored = g.ask("PUT", "/bucket/k").header("x-amz-acl", "public-read").body("hello").send().await;
    assert_eq!(stored.status, 200);
    g.put("/bucket/hidden", "x").await;
    let ask = |method: &str, target: &str| g.ask(method, target).anonymous();
    let got = ask("GET", "/bucket/k").header("range", "bytes=1-2").send().await;
    assert_eq!((got.status, got.body.as_slice()), (206, &b"el"[..]));
    assert!(got.headers.keys().all(|name| !name.as_str().contains("acl")), "{:?}", got.headers);
    assert_eq!(ask("HEAD", "/bucket/k").send().await.header("content-length"), "5");
    let attributes = ask("GET", "/bucket/k?attributes").header("x-amz-object-attributes", "ObjectSize").send().await;
    assert_eq!(attributes.element("ObjectSize"), Some("5"));
    let etag = stored.header("etag").to_owned();
    assert_eq!(ask("GET", "/bucket/k").header("if-none-match", &etag).send().await.status, 304);
    assert_eq!(ask("GET", "/bucket/k").header("range", "bytes=9-").send().await.error(), (416, "InvalidRange"));
    // Nothing is learnt of what may not be read: neither that it is there, nor its ETag or size.
    for target in ["/bucket/hidden", "/bucket/none"] {
        assert_eq!(ask("GET", target).send().await.error(), (403, "AccessDenied"));
        assert_eq!(ask("HEAD", target).send().await.status, 403);
        assert_eq!(ask("GET", target).header("if-match", "\"x\"").send().await.error(), (403, "AccessDenied"));
        assert_eq!(ask("GET", target).header("range", "bytes=9-").send().await.error(), (403, "AccessDenied"));
        assert_eq!(ask("GET", &format!("{target}?acl")).send().await.error(), (403, "AccessDenied"));
        let attributes = ask("GET", &format!("{target}?attributes")).header("x-amz-object-attributes", "ETag");
        assert_eq!(attributes.send().await.error(), (403, "AccessDenied"));
    }
    assert_eq!(ask("GET", "/bucket/k?response-content-type=a%2Fb").send().await.error(), (400, "InvalidRequest"));
    assert_eq!(ask("GET", "/").send().await.error(), (403, "AccessDenied"));
    assert_eq!(ask("PUT", "/mine").send().await.error(), (403, "AccessDenied"));
    // To overwrite is to begin anew.
    g.put("/bucket/k", "secret").await;
    assert_eq!(ask("GET", "/bucket/k").send().await.status, 403);
}

#[tokio::test]
async fn a_signature_that_fails_is_an_error_in_public_too() {
    let g = Gateway::with_bucket().await;
    acl(&g, "/bucket", "public-read-write").await;
    g.ask("PUT", "/bucket/k").header("x-amz-acl", "public-read").body("x").send().await;
    assert_eq!(g.ask("GET", "/bucket/k").by(("NOBODY", "x")).send().await.error(), (403, "InvalidAccessKeyId"));
    assert_eq!(g.ask("GET", "/bucket/k").by((ANN.0, "x")).send().await.error(), (403, "SignatureDoesNotMatch"));
    // Two headers are none to a lenient reader.
    let twice = g.ask("GET", "/bucket/k").anonymous().header("authorization", "AWS a:b").header("authorization", "AWS a:b");
    assert_eq!(twice.send().await.status, 403);
    for query in ["X-Amz-Credential=a", "AWSAccessKeyId=a&Expires=9"] {
        let half = g.ask("GET", &format!("/bucket/k?{query}")).anonymous().send().await;
        assert_eq!(half.error(), (403, "AccessDenied"), "{query}");
    }
    let other = g.ask("GET", "/bucket/k").anonymous().header("x-amz-expected-bucket-owner", "123456789012");
    assert_eq!(other.send().await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn whoever_writes_owns() {
    let g = Gateway::with_bucket().await;
    let bob = id(&g, BOB).await;
    g.put("/bucket/anns", "ann").await;
    acl(&g, "/bucket", "public-read-write").await;
    let by = |method: &str, target: &str| g.ask(method, target).by(BOB);
    assert_eq!(by("PUT", "/bucket/bobs").body("bob").send().await.status, 200);
    assert_eq!(by("GET", "/bucket/bobs").send().await.body, b"bob");
    assert_eq!(by("GET", "/bucket/anns").send().await.status, 403);
    let shown = by("GET", "/bucket/bobs?acl").send().await;
    assert_eq!((shown.elements("ID"), shown.elements("DisplayName")), (vec![bob.as_str(); 2], vec!["bob"; 2]));
    // The bucket's owner sees it and may delete it, but not read it; root may everything.
    assert_eq!(g.get("/bucket").await.elements("Key"), ["anns", "bobs"]);
    assert_eq!(g.get("/bucket/bobs").await.error(), (403, "AccessDenied"));
    assert_eq!(g.ask("HEAD", "/bucket/bobs").send().await.status, 403);
    assert_eq!(g.ask("PUT", "/bucket/bobs?acl").header("x-amz-acl", "public-read").send().await.status, 403);
    assert_eq!(g.ask("PUT", "/bucket/copy").header("x-amz-copy-source", "bucket/bobs").send().await.status, 403);
    assert_eq!(g.ask("GET", "/bucket/bobs").by(ROOT).send().await.body, b"bob");
    let given = by("PUT", "/bucket/bobs?acl").header("x-amz-acl", "bucket-owner-read").send().await;
    assert_eq!(given.status, 200);
    assert_eq!(g.get("/bucket/bobs").await.body, b"bob");
    assert_eq!(g.get("/bucket/bobs?acl").await.status, 403);
    assert_eq!(by("GET", "/bucket/bobs?acl").send().await.elements("Permission"), ["FULL_CONTROL", "READ"]);
    // A copy is its maker's.
    assert_eq!(g.ask("PUT", "/bucket/copy").header("x-amz-copy-source", "bucket/bobs").send().await.status, 200);
    assert_eq!(g.get("/bucket/copy?acl").await.element("DisplayName"), Some("ann"));
    assert_eq!(by("GET", "/bucket/copy").send().await.status, 403);
    assert_eq!(g.ask("DELETE", "/bucket/bobs").send().await.status, 204);
    // What root writes is the bucket's.
    assert_eq!(g.ask("PUT", "/bucket/roots").by(ROOT).body("r").send().await.status, 200);
    assert_eq!(g.get("/bucket/roots?acl").await.element("DisplayName"), Some("ann"));
    // So is what Ann writes over Bob's.
    by("PUT", "/bucket/k").body("bob").send().await;
    g.put("/bucket/k", "ann").await;
    assert_eq!(g.get("/bucket/k?acl").await.element("DisplayName"), Some("ann"));
}

#[tokio::test]
async fn what_nobody_signed_for_belongs_to_nobody_in_particular() {
    let g = Gateway::with_bucket().await;
    acl(&g, "/bucket", "public-read-write").await;
    assert_eq!(g.ask("PUT", "/bucket/k").anonymous().body("x").send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/k").anonymous().send().await.body, b"x");
    for who in [ANN, BOB] {
        assert_eq!(g.ask("GET", "/bucket/k").by(who).send().await.status, 403);
    }
    let shown = g.ask("GET", "/bucket/k?acl").anonymous().send().await;
    assert_eq!((shown.elements("ID"), shown.element("DisplayName")), (vec!["65a011a29cdf8ec533ec3d1ccaae921c"; 2], None));
    let copy = g.ask("PUT", "/bucket/c").anonymous().header("x-amz-copy-source", "bucket/k").send().await;
    assert_eq!(copy.error(), (403, "AccessDenied"));
    assert_eq!(g.ask("POST", "/bucket/m?uploads").anonymous().send().await.error(), (403, "AccessDenied"));
    let named = g.ask("PUT", "/bucket/open").anonymous().header("x-amz-acl", "public-read").body("o").send().await;
    assert_eq!(named.status, 200);
    assert_eq!(g.get("/bucket/open").await.body, b"o");
    assert_eq!(g.ask("DELETE", "/bucket/open").anonymous().send().await.status, 204);
    assert_eq!(g.ask("DELETE", "/bucket/k").send().await.status, 204);
}

#[tokio::test]
async fn each_permission_opens_what_it_names() {
    let g = Gateway::with_bucket().await;
    let (ann, bob) = (id(&g, ANN).await, id(&g, BOB).await);
    g.put("/bucket/k", "x").await;
    let bobs = format!("<ID>{bob}</ID>");
    // list, write, read the list, change it.
    for (permission, expected) in [
        ("READ", [200, 403, 403, 403]),
        ("WRITE", [403, 200, 403, 403]),
        ("READ_ACP", [403, 403, 200, 403]),
        ("WRITE_ACP", [403, 403, 403, 200]),
        ("FULL_CONTROL", [200, 200, 200, 200]),
    ] {
        let granted = policy(&ann, &grant(&bobs, permission));
        assert_eq!(g.put("/bucket?acl", granted.clone()).await.status, 200);
        let by = |method: &str, target: &str| g.ask(method, target).by(BOB);
        let got = [
            by("GET", "/bucket").send().await.status,
            by("PUT", "/bucket/new").send().await.status,
            by("GET", "/bucket?acl").send().await.status,
            by("PUT", "/bucket?acl").body(granted.clone()).send().await.status,
        ];
        assert_eq!(got, expected, "{permission} on a bucket");
        assert_eq!(g.put("/bucket/k?acl", granted.clone()).await.status, 200);
        let got = [
            by("GET", "/bucket/k").send().await.status,
            by("GET", "/bucket/k?acl").send().await.status,
            by("PUT", "/bucket/k?acl").body(granted).send().await.status,
        ];
        assert_eq!(got, [expected[0], expected[2], expected[3]], "{permission} on an object");
        // The owner needs no grant.
        assert_eq!(g.get("/bucket/k").await.status, 200);
    }
    assert_eq!(g.put("/bucket?acl", policy(&ann, "")).await.status, 200);
    assert_eq!(g.get("/bucket?acl").await.elements("Permission"), [""; 0]);
    assert_eq!(g.get("/bucket").await.status, 200);
}

#[tokio::test]
async fn signing_is_enough_for_authenticated_users() {
    let g = Gateway::with_bucket().await;
    g.ask("PUT", "/bucket/k").header("x-amz-acl", "authenticated-read").body("x").send().await;
    assert_eq!(g.ask("GET", "/bucket/k").by(BOB).send().await.body, b"x");
    assert_eq!(g.ask("GET", "/bucket/k").anonymous().send().await.status, 403);
    assert_eq!(g.get("/bucket/k?acl").await.element("URI"), Some("http://acs.amazonaws.com/groups/global/AuthenticatedUsers"));
}

#[tokio::test]
async fn headers_grant() {
    let g = Gateway::with_bucket().await;
    let bob = id(&g, BOB).await;
    let stored = g
        .ask("PUT", "/bucket/k")
        .header("x-amz-grant-full-control", "emailAddress=\"ann\"")
        .header("x-amz-grant-read", &format!("id=\"{bob}\", uri=\"{EVERYBODY}\""))
        .body("x");
    assert_eq!(stored.send().await.status, 200);
    let shown = g.get("/bucket/k?acl").await;
    assert_eq!(shown.elements("Permission"), ["READ", "READ", "FULL_CONTROL"]);
    assert_eq!(shown.elements("DisplayName"), ["ann", "bob", "ann"]);
    assert_eq!(g.ask("GET", "/bucket/k").anonymous().send().await.body, b"x");
    for (header, value, error) in [
        ("x-amz-acl", "odd", (400, "InvalidArgument")),
        ("x-amz-grant-read", "id=nobody", (400, "InvalidArgument")),
        ("x-amz-grant-read", "uri=http://x", (400, "InvalidArgument")),
        ("x-amz-grant-read", "bob", (400, "InvalidArgument")),
        ("x-amz-grant-read", "emailAddress=none@example.org", (400, "UnresolvableGrantByEmailAddress")),
    ] {
        for (method, target) in [
            ("PUT", "/bucket/new"),
            ("PUT", "/bucket?acl"),
            ("PUT", "/bucket/k?acl"),
            ("POST", "/bucket/new?uploads"),
            ("PUT", "/new"),
        ] {
            assert_eq!(g.ask(method, target).header(header, value).send().await.error(), error, "{method} {target} {value}");
        }
    }
    let both = g.ask("PUT", "/bucket/k").header("x-amz-acl", "private").header("x-amz-grant-read", &format!("id={bob}"));
    assert_eq!(both.send().await.error(), (400, "InvalidRequest"));
    let many = vec![format!("id={bob}"); 101].join(",");
    assert_eq!(g.ask("PUT", "/bucket/k").header("x-amz-grant-read", &many).send().await.error(), (400, "InvalidRequest"));
    assert_eq!(g.get("/bucket/new").await.status, 404);
    assert_eq!(g.get("/new").await.status, 404, "no bucket comes of a refusal");
}

#[tokio::test]
async fn documents_are_checked() {
    let g = Gateway::with_bucket().await;
    let (ann, bob) = (id(&g, ANN).await, id(&g, BOB).await);
    g.put("/bucket/k", "x").await;
    for target in ["/bucket?acl", "/bucket/k?acl"] {
        let put = async |document: String| {
            let answer = g.put(target, document).await;
            (answer.status, answer.code().to_owned())
        };
        let error = |status: u16, code: &str| (status, code.to_owned());
        assert_eq!(put("<nonsense".into()).await, error(400, "MalformedACLError"));
        assert_eq!(put("<AccessControlPolicy/>".into()).await, error(400, "MalformedACLError"));
        assert_eq!(put(policy(&ann, "<Grant/>")).await, error(400, "MalformedACLError"));
        assert_eq!(put(policy(&ann, &grant("<ID>x</ID>", "ALL"))).await, error(400, "MalformedACLError"));
        assert_eq!(put(policy(&ann, &grant("<ID>_foo</ID>", "READ"))).await, error(400, "InvalidArgument"));
        assert_eq!(put(policy(&ann, &grant("<URI>http://x</URI>", "READ"))).await, error(400, "InvalidArgument"));
        let email = "<EmailAddress>none@example.org</EmailAddress>";
        assert_eq!(put(policy(&ann, &grant(email, "READ"))).await, error(400, "UnresolvableGrantByEmailAddress"));
        assert_eq!(put(policy(&bob, "")).await, error(403, "AccessDenied"));
        let many = grant(&format!("<ID>{bob}</ID>"), "READ");
        assert_eq!(put(policy(&ann, &many.repeat(101))).await, error(400, "MalformedACLError"));
        assert_eq!(put(String::new()).await, error(400, "MissingSecurityHeader"));
        assert_eq!(put(policy(&ann, &many.repeat(100))).await.0, 200);
        let both = g.ask("PUT", target).header("x-amz-acl", "private").body(policy(&ann, "")).send().await;
        assert_eq!(both.error(), (400, "UnexpectedContent"));
    }
    assert_eq!(g.put("/bucket/none?acl", policy(&ann, "")).await.error(), (404, "NoSuchKey"));
    assert_eq!(g.get("/bucket/none?acl").await.error(), (404, "NoSuchKey"));
}

#[tokio::test]
async fn a_list_changes_without_the_object() {
    let g = Gateway::with_bucket().await;
    g.ask("PUT", "/bucket/k").header("x-amz-meta-a", "1").header("x-amz-tagging", "t=1").body("x").send().await;
    let before = g.ask("HEAD", "/bucket/k").send().await;
    acl(&g, "/bucket/k", "public-read").await;
    let after = g.ask("HEAD", "/bucket/k").anonymous().send().await;
    for name in ["etag", "last-modified", "x-amz-meta-a", "x-amz-tagging-count", "content-length"] {
        assert_eq!(after.header(name), before.header(name), "{name}");
    }
    acl(&g, "/bucket/k", "private").await;
    assert_eq!(g.ask("HEAD", "/bucket/k").anonymous().send().await.status, 403);
}

#[tokio::test]
async fn copies_have_lists_of_their_own() {
    let g = Gateway::with_bucket().await;
    let anonymous = async |target: &str| g.ask("GET", target).anonymous().send().await.status;
    g.ask("PUT", "/bucket/a").header("x-amz-acl", "public-read").body("x").send().await;
    assert_eq!(g.ask("PUT", "/bucket/b").header("x-amz-copy-source", "bucket/a").send().await.status, 200);
    assert_eq!(anonymous("/bucket/b").await, 403, "a list is not copied");
    let open = |target: &str| g.ask("PUT", target).header("x-amz-copy-source", "bucket/b").header("x-amz-acl", "public-read");
    assert_eq!(open("/bucket/c").send().await.status, 200);
    assert_eq!(anonymous("/bucket/c").await, 200);
    assert_eq!(open("/bucket/d").header("x-amz-metadata-directive", "REPLACE").send().await.status, 200);
    assert_eq!(anonymous("/bucket/d").await, 200);
    // Somebody else needs to read the source and to write the destination.
    g.ask("PUT", "/bobs").by(BOB).send().await;
    let copy = |source: &str| g.ask("PUT", "/bobs/k").by(BOB).header("x-amz-copy-source", source);
    assert_eq!(copy("bucket/a").send().await.status, 200);
    assert_eq!(copy("bucket/b").send().await.error(), (403, "AccessDenied"));
    assert_eq!(copy("bucket/none").send().await.error(), (403, "AccessDenied"));
    assert_eq!(copy("none/k").send().await.error(), (404, "NoSuchBucket"));
    let expected = copy("bucket/a").header("x-amz-source-expected-bucket-owner", "123456789012").send().await;
    assert_eq!(expected.error(), (403, "AccessDenied"));
    let upload = g.ask("POST", "/bobs/m?uploads").by(BOB).send().await.element("UploadId").unwrap().to_owned();
    let part = format!("/bobs/m?partNumber=1&uploadId={upload}");
    let part = |source: &str| g.ask("PUT", &part).by(BOB).header("x-amz-copy-source", source);
    assert_eq!(part("bucket/a").send().await.status, 200);
    assert_eq!(part("bucket/b").send().await.error(), (403, "AccessDenied"));
    assert_eq!(part("bucket/none").send().await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn an_upload_is_its_initiators() {
    let g = Gateway::with_bucket().await;
    acl(&g, "/bucket", "public-read-write").await;
    let begin = g.ask("POST", "/bucket/m?uploads").by(BOB).header("x-amz-acl", "public-read").send().await;
    let bobs = begin.element("UploadId").unwrap().to_owned();
    let anns = g.ask("POST", "/bucket/n?uploads").send().await.element("UploadId").unwrap().to_owned();
    for who in [ANN, BOB] {
        let listed = g.ask("GET", "/bucket?uploads").by(who).send().await;
        assert_eq!(listed.elements("DisplayName"), ["bob", "bob", "ann", "ann"]);
    }
    // With Ann's upload Bob may do nothing, for all that he may write.
    let target = format!("/bucket/n?uploadId={anns}");
    for (method, query) in [("PUT", "&partNumber=1"), ("GET", ""), ("DELETE", ""), ("POST", "")] {
        let refused = g.ask(method, &format!("{target}{query}")).by(BOB).send().await;
        assert_eq!(refused.error(), (403, "AccessDenied"), "{method}");
    }
    let target = format!("/bucket/m?uploadId={bobs}");
    let part = g.ask("PUT", &format!("{target}&partNumber=1")).by(BOB).body("x").send().await;
    let shown = g.ask("GET", &target).by(BOB).send().await;
    assert_eq!((shown.element("PartNumber"), shown.elements("DisplayName")), (Some("1"), vec!["bob", "bob"]));
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    for _ in 0..2 {
        // The answer to a repetition is the same for him too.
        assert_eq!(g.ask("POST", &target).by(BOB).body(document.clone()).send().await.status, 200);
    }
    assert_eq!(g.ask("GET", "/bucket/m").anonymous().send().await.body, b"x");
    assert_eq!(g.ask("GET", "/bucket/m?acl").by(BOB).send().await.elements("DisplayName"), ["bob", "bob"]);
    assert_eq!(g.ask("DELETE", &format!("/bucket/n?uploadId={anns}")).send().await.status, 204);
}

#[tokio::test]
async fn a_bucket_is_created_with_its_list() {
    let g = Gateway::start().await;
    let create = |name: &str| g.ask("PUT", &format!("/{name}"));
    assert_eq!(create("open").header("x-amz-acl", "public-read").send().await.status, 200);
    assert_eq!(g.ask("GET", "/open").anonymous().send().await.status, 200);
    let bob = id(&g, BOB).await;
    assert_eq!(create("bobs").header("x-amz-grant-write", &format!("id={bob}")).send().await.status, 200);
    assert_eq!(g.ask("PUT", "/bobs/k").by(BOB).send().await.status, 200);
    assert_eq!(create("plain").send().await.status, 200);
    // Again is well for what is there, and for nothing else.
    assert_eq!(create("open").header("x-amz-acl", "public-read").send().await.status, 200);
    assert_eq!(create("open").send().await.error(), (409, "BucketAlreadyExists"));
    assert_eq!(create("plain").send().await.status, 200);
    assert_eq!(create("plain").header("x-amz-acl", "public-read").send().await.error(), (409, "BucketAlreadyExists"));
    assert_eq!(g.ask("GET", "/plain").anonymous().send().await.status, 403);
    assert_eq!(create("plain").by(BOB).send().await.error(), (409, "BucketAlreadyExists"));
    // A later bucket of the name has nothing of it.
    assert_eq!(g.ask("DELETE", "/open").send().await.status, 204);
    assert_eq!(create("open").by(BOB).send().await.status, 200);
    assert_eq!(g.ask("GET", "/open").anonymous().send().await.status, 403);
}
