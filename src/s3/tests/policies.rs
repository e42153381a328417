use super::*;

const ALL: &str = r#"["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]"#;

fn statement(effect: &str, principal: &str, actions: &str, resources: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{principal},"Action":{actions},"Resource":{resources},"Condition":{{{condition}}}}}"#
    )
}

fn document(statements: &[String]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

/// Ann's bucket `bucket` with some objects and this policy.
async fn with(statements: &[String]) -> Gateway {
    let g = Gateway::with_bucket().await;
    for key in ["a", "b", "in/a", "in/b"] {
        assert_eq!(g.put(&format!("/bucket/{key}"), "x").await.status, 200);
    }
    let put = g.put("/bucket?policy", document(statements)).await;
    assert_eq!(put.status, 204, "{put:?}");
    g
}

fn allow(actions: &str, condition: &str) -> String {
    statement("Allow", r#"{"AWS":"arn:aws:iam:::user/bob"}"#, actions, ALL, condition)
}

fn deny(actions: &str, condition: &str) -> String {
    statement("Deny", r#""*""#, actions, ALL, condition)
}

async fn status(g: &Gateway, who: (&'static str, &'static str), method: &str, target: &str) -> u16 {
    g.ask(method, target).by(who).send().await.status
}

#[tokio::test]
async fn a_policy_is_put_read_and_deleted() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.get("/bucket?policy").await.error(), (404, "NoSuchBucketPolicy"));
    let text = document(&[allow(r#""s3:GetObject""#, "")]).replace(':', " :\n");
    assert_eq!(g.put("/bucket?policy", text.replace(" :\n", ":")).await.status, 204);
    let got = g.get("/bucket?policy").await;
    assert_eq!((got.status, got.header("content-type"), got.text()), (200, "application/json", &*text.replace(" :\n", ":")));
    let wrong = g.put("/bucket?policy", document(&[allow(r#""s3:GetObjec""#, "")])).await;
    assert_eq!(wrong.error(), (400, "MalformedPolicy"));
    assert_eq!(wrong.element("Message"), Some("Policy has invalid action: s3:GetObjec (Statement[0].Action)"));
    assert_eq!(g.put("/bucket?policy", "{").await.error(), (400, "MalformedPolicy"));
    assert_eq!(g.put("/bucket?policy", "").await.error(), (400, "MissingRequestBodyError"));
    assert_eq!(g.get("/bucket?policy").await.status, 200, "a refused policy replaces nothing");
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(status(&g, BOB, method, "/bucket?policy").await, 403);
    }
    assert_eq!(g.get("/bucket?policyStatus").await.element("IsPublic"), Some("false"));
    g.put("/bucket?policy", document(&[statement("Allow", r#""*""#, r#""s3:GetObject""#, ALL, "")])).await;
    assert_eq!(g.get("/bucket?policyStatus").await.element("IsPublic"), Some("true"));
    assert_eq!(g.ask("DELETE", "/bucket?policy").send().await.status, 204);
    assert_eq!(g.get("/bucket?policy").await.error(), (404, "NoSuchBucketPolicy"));
    assert_eq!(g.ask("DELETE", "/bucket?policy").send().await.status, 204);
}

#[tokio::test]
async fn it_lets_in_whom_it_names_and_for_what_it_names() {
    let g = with(&[allow(r#"["s3:GetObject","s3:ListBucket","s3:PutObject","s3:DeleteObject"]"#, "")]).await;
    assert_eq!(g.ask("GET", "/bucket/a").by(BOB).send().await.body, b"x");
    assert_eq!(g.ask("GET", "/bucket").by(BOB).send().await.elements("Key"), ["a", "b", "in/a", "in/b"]);
    assert_eq!(g.ask("PUT", "/bucket/new").by(BOB).body("y").send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/new").by(BOB).send().await.body, b"y");
    for (method, target, want) in [
        ("HEAD", "/bucket", 200),
        ("HEAD", "/bucket/a", 200),
        ("GET", "/bucket/none", 404),
        ("DELETE", "/bucket/new", 204),
        ("GET", "/bucket?versions", 403),
        ("GET", "/bucket/a?tagging", 403),
        ("GET", "/bucket/a?acl", 403),
        ("GET", "/bucket?acl", 403),
        ("GET", "/bucket?policy", 403),
        ("PUT", "/bucket?cors", 403),
        ("DELETE", "/bucket", 403),
    ] {
        assert_eq!(status(&g, BOB, method, target).await, want, "{method} {target}");
        if want != 404 {
            assert_eq!(g.ask(method, target).anonymous().send().await.status, 403, "{method} {target}");
        }
    }
}

#[tokio::test]
async fn everybody_may_be_let_in() {
    let g = with(&[statement("Allow", r#"{"AWS":"*"}"#, r#"["s3:GetObject"]"#, r#""arn:aws:s3:::bucket/in/*""#, "")]).await;
    assert_eq!(g.ask("GET", "/bucket/in/a").anonymous().send().await.body, b"x");
    assert_eq!(g.ask("GET", "/bucket/in/a").by(BOB).send().await.body, b"x");
    for (method, target) in [("GET", "/bucket/a"), ("GET", "/bucket"), ("PUT", "/bucket/in/a"), ("GET", "/bucket/in/none")] {
        assert_eq!(g.ask(method, target).anonymous().send().await.error(), (403, "AccessDenied"), "{method} {target}");
    }
    assert_eq!(g.ask("GET", "/bucket/in/a").by((BOB.0, "wrong")).send().await.error(), (403, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn what_it_denies_is_denied_to_owners_too_but_not_the_policy_itself() {
    let g = with(&[allow(r#""s3:*""#, ""), deny(r#"["s3:DeleteObject","s3:GetBucketCORS"]"#, "")]).await;
    for who in [ANN, BOB, ROOT] {
        assert_eq!(status(&g, who, "DELETE", "/bucket/a").await, 403);
        assert_eq!(status(&g, who, "GET", "/bucket?cors").await, 403);
        assert_eq!(status(&g, who, "GET", "/bucket/a").await, 200);
    }
    assert_eq!(status(&g, BOB, "GET", "/bucket?policy").await, 200);
    let locked = document(&[deny(r#""s3:*""#, "")]);
    assert_eq!(g.ask("PUT", "/bucket?policy").by(BOB).body(locked.clone()).send().await.status, 204);
    assert_eq!(status(&g, BOB, "GET", "/bucket?policy").await, 403);
    for who in [ANN, ROOT] {
        assert_eq!(status(&g, who, "GET", "/bucket/a").await, 403);
        assert_eq!(status(&g, who, "GET", "/bucket").await, 403);
        assert_eq!(status(&g, who, "GET", "/bucket?policy").await, 200);
        assert_eq!(g.ask("PUT", "/bucket?policy").by(who).body(locked.clone()).send().await.status, 204);
    }
    assert_eq!(status(&g, ANN, "DELETE", "/bucket?policy").await, 204);
    assert_eq!(status(&g, ANN, "GET", "/bucket/a").await, 200);
}

#[tokio::test]
async fn conditions_look_at_the_request() {
    let list = |condition: &str| allow(r#""s3:ListBucket""#, condition);
    let g = with(&[list(r#""StringEquals":{"s3:prefix":"in/","s3:delimiter":"/"},"NumericLessThanEquals":{"s3:max-keys":10}"#)])
        .await;
    assert_eq!(status(&g, BOB, "GET", "/bucket?prefix=in/&delimiter=/&max-keys=10").await, 200);
    assert_eq!(status(&g, BOB, "GET", "/bucket?list-type=2&prefix=in%2F&delimiter=%2F&max-keys=1").await, 200);
    for query in ["", "?prefix=in/", "?prefix=in/&delimiter=/&max-keys=11", "?prefix=&delimiter=/&max-keys=1"] {
        assert_eq!(status(&g, BOB, "GET", &format!("/bucket{query}")).await, 403, "{query}");
    }
    let put = |condition: &str| g.put("/bucket?policy", document(&[allow(r#""s3:*""#, condition)]));
    let get = |headers: &[(&str, &str)]| {
        let ask = headers.iter().fold(g.ask("GET", "/bucket/a").by(BOB), |ask, (name, value)| ask.header(name, value));
        async move { ask.send().await.status }
    };
    for (condition, headers, want) in [
        (r#""IpAddress":{"aws:SourceIp":"127.0.0.0/8"}"#, &[][..], 200),
        (r#""NotIpAddress":{"aws:SourceIp":"127.0.0.0/8"}"#, &[], 403),
        (r#""Bool":{"aws:SecureTransport":"false"}"#, &[], 200),
        (r#""Bool":{"aws:SecureTransport":"true"}"#, &[], 403),
        (r#""StringLike":{"aws:Referer":"http://x/*"}"#, &[("referer", "http://x/y")], 200),
        (r#""StringLike":{"aws:Referer":"http://x/*"}"#, &[("referer", "http://y/x")], 403),
        (r#""StringLike":{"aws:Referer":"http://x/*"}"#, &[], 403),
        (r#""StringLikeIfExists":{"aws:Referer":"http://x/*"}"#, &[], 200),
        (r#""StringLike":{"aws:UserAgent":"*tool*"}"#, &[("user-agent", "a tool/1")], 200),
        (r#""DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"},"NumericGreaterThan":{"aws:EpochTime":1000}"#, &[], 200),
        (r#""DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}"#, &[], 403),
        (r#""StringEquals":{"s3:signatureversion":"AWS4-HMAC-SHA256","s3:authType":"REST-HEADER"}"#, &[], 200),
        (r#""NumericLessThan":{"s3:signatureAge":60000}"#, &[], 200),
        (r#""NumericGreaterThan":{"s3:signatureAge":60000}"#, &[], 403),
        (r#""StringEquals":{"aws:username":"bob","aws:PrincipalType":"Account"}"#, &[], 200),
    ] {
        assert_eq!(put(condition).await.status, 204, "{condition}");
        assert_eq!(get(headers).await, want, "{condition} {headers:?}");
    }
}

#[tokio::test]
async fn writes_are_judged_by_their_headers() {
    let g = with(&[
        allow(r#"["s3:PutObject","s3:PutObjectTagging"]"#, ""),
        deny(r#""s3:PutObject""#, r#""StringEquals":{"s3:RequestObjectTag/secret":"yes"}"#),
        deny(r#""s3:PutObject""#, r#""ForAnyValue:StringNotEquals":{"s3:RequestObjectTagKeys":["secret","kind"]}"#),
        deny(r#""s3:PutObject""#, r#""StringEquals":{"s3:x-amz-storage-class":"REDUCED_REDUNDANCY"}"#),
    ])
    .await;
    let put = |name: &'static str, value: &'static str| {
        let ask = g.ask("PUT", "/bucket/new").by(BOB).body("y").header(name, value);
        async move { ask.send().await.status }
    };
    assert_eq!(put("x-amz-tagging", "kind=a&secret=no").await, 200);
    assert_eq!(put("x-amz-tagging", "secret=yes").await, 403);
    assert_eq!(put("x-amz-tagging", "other=1").await, 403);
    assert_eq!(put("x-amz-storage-class", "REDUCED_REDUNDANCY").await, 403);
    assert_eq!(put("x-amz-meta-a", "b").await, 200);
    // To tag is an action of its own.
    g.put("/bucket?policy", document(&[allow(r#""s3:PutObject""#, "")])).await;
    assert_eq!(put("x-amz-tagging", "kind=a").await, 403);
    assert_eq!(put("x-amz-meta-a", "b").await, 200);
}

#[tokio::test]
async fn tags_in_a_body_count_as_those_in_a_header() {
    let tags = |name: &str, value: &str| {
        format!("<Tagging><TagSet><Tag><Key>{name}</Key><Value>{value}</Value></Tag></TagSet></Tagging>")
    };
    let g = with(&[
        allow(r#"["s3:PutObjectTagging","s3:GetObjectTagging"]"#, r#""StringEquals":{"s3:RequestObjectTag/kind":"a"}"#),
        deny(r#""s3:PutObjectTagging""#, r#""Null":{"s3:RequestObjectTag/kind":"true"}"#),
    ])
    .await;
    let put = |who, body: String| {
        let ask = g.ask("PUT", "/bucket/a?tagging").by(who).body(body);
        async move { ask.send().await.status }
    };
    assert_eq!(put(BOB, tags("kind", "a")).await, 200);
    assert_eq!(put(BOB, tags("kind", "b")).await, 403);
    assert_eq!(put(BOB, tags("other", "a")).await, 403);
    assert_eq!(put(ANN, tags("kind", "b")).await, 200, "an owner needs no Allow");
    assert_eq!(put(ANN, tags("other", "a")).await, 403, "but bears a Deny");
    assert_eq!(g.get("/bucket/a?tagging").await.elements("Value"), ["b"]);
}

#[tokio::test]
async fn tags_of_an_object_decide_about_it() {
    let g = with(&[allow(
        r#"["s3:GetObject","s3:GetObjectTagging"]"#,
        r#""StringEquals":{"s3:ExistingObjectTag/Security":"public"}"#,
    )])
    .await;
    let set = |key: &str, tags: &'static str| {
        let ask = g.ask("PUT", &format!("/bucket/{key}")).header("x-amz-tagging", tags).body("x");
        async move { assert_eq!(ask.send().await.status, 200) }
    };
    set("a", "security=public&x=y").await;
    set("b", "security=private").await;
    for (target, want) in [
        ("/bucket/a", 200),
        ("/bucket/a?tagging", 200),
        ("/bucket/b", 403),
        ("/bucket/b?tagging", 403),
        ("/bucket/in/a", 403),
        ("/bucket/none", 403),
    ] {
        assert_eq!(status(&g, BOB, "GET", target).await, want, "{target}");
    }
}

#[tokio::test]
async fn of_many_keys_each_is_judged() {
    let g = with(&[
        statement("Allow", r#"{"AWS":"bob"}"#, r#""s3:DeleteObject""#, r#""arn:aws:s3:::bucket/in/*""#, ""),
        statement("Deny", r#""*""#, r#""s3:DeleteObject""#, r#""arn:aws:s3:::bucket/in/b""#, ""),
    ])
    .await;
    let keys = ["a", "in/a", "in/b"].map(|k| format!("<Object><Key>{k}</Key></Object>")).concat();
    let body = format!("<Delete>{keys}</Delete>");
    let delete = |who| {
        let ask = g.ask("POST", "/bucket?delete").by(who).header("content-md5", &md5(body.as_bytes())).body(body.clone());
        async move { ask.send().await }
    };
    let by_bob = delete(BOB).await;
    assert_eq!((by_bob.status, by_bob.elements("Code")), (200, vec!["AccessDenied", "AccessDenied"]), "{}", by_bob.text());
    assert_eq!(by_bob.elements("Key"), ["a", "in/a", "in/b"]);
    assert_eq!(g.get("/bucket").await.elements("Key"), ["a", "b", "in/b"]);
    let by_ann = delete(ANN).await;
    assert_eq!(by_ann.elements("Code"), ["AccessDenied"]);
    assert_eq!(g.get("/bucket").await.elements("Key"), ["b", "in/b"]);
}

#[tokio::test]
async fn copies_need_both_ends() {
    let g = with(&[statement("Allow", r#"{"AWS":"bob"}"#, r#""s3:GetObject""#, r#""arn:aws:s3:::bucket/in/*""#, "")]).await;
    assert_eq!(status(&g, BOB, "PUT", "/bobs").await, 200);
    let copy = |who, to: &str, from: &str| {
        let ask = g.ask("PUT", to).by(who).header("x-amz-copy-source", from);
        async move { ask.send().await.status }
    };
    assert_eq!(copy(BOB, "/bobs/1", "bucket/in/a").await, 200);
    assert_eq!(copy(BOB, "/bobs/1", "bucket/a").await, 403);
    assert_eq!(copy(BOB, "/bobs/1", "bucket/none").await, 403);
    assert_eq!(copy(BOB, "/bucket/in/new", "bobs/1").await, 403);
    let started = g.ask("POST", "/bobs/2?uploads").by(BOB).send().await;
    let part = format!("/bobs/2?partNumber=1&uploadId={}", started.element("UploadId").unwrap());
    assert_eq!(copy(BOB, &part, "bucket/in/a").await, 200);
    assert_eq!(copy(BOB, &part, "bucket/a").await, 403);
    // What Bob may write here depends on where it comes from.
    let from =
        |text: &str| document(&[allow(r#"["s3:PutObject"]"#, &format!(r#""StringLike":{{"s3:x-amz-copy-source":"{text}"}}"#))]);
    for text in ["bobs/*", "/bobs/*"] {
        assert_eq!(g.put("/bucket?policy", from(text)).await.status, 204);
        assert_eq!(copy(BOB, "/bucket/new", "/bobs/1").await, 200);
        assert_eq!(copy(BOB, "/bucket/new", "bobs%2F1").await, 200);
    }
    assert_eq!(g.put("/bucket?policy", from("others/*")).await.status, 204);
    assert_eq!(copy(BOB, "/bucket/new", "bobs/1").await, 403);
    assert_eq!(g.ask("PUT", "/bucket/new").by(BOB).body("x").send().await.status, 403);
    // A Deny holds for the owner of the source too.
    assert_eq!(g.put("/bucket?policy", document(&[deny(r#""s3:GetObject""#, "")])).await.status, 204);
    assert_eq!(copy(ANN, "/bucket/new", "bucket/a").await, 403);
}

#[tokio::test]
async fn uploads_follow_the_policy() {
    let g = with(&[allow(r#""s3:PutObject""#, "")]).await;
    let started = g.ask("POST", "/bucket/up?uploads").by(BOB).send().await;
    assert_eq!(started.status, 200);
    let id = started.element("UploadId").unwrap();
    let put = g.ask("PUT", &format!("/bucket/up?partNumber=1&uploadId={id}")).by(BOB).body("hello").send().await;
    assert_eq!(put.status, 200);
    assert_eq!(status(&g, BOB, "DELETE", &format!("/bucket/up?uploadId={id}")).await, 403, "to abort is an action of its own");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        put.header("etag")
    );
    assert_eq!(g.ask("POST", &format!("/bucket/up?uploadId={id}")).by(BOB).body(list).send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/up").by(BOB).send().await.body, b"hello");
}

#[tokio::test]
async fn a_missing_object_is_told_to_those_who_may_list_its_name() {
    let g = with(&[allow(r#""s3:ListBucket""#, r#""StringLike":{"s3:prefix":"in/*"}"#)]).await;
    assert_eq!(status(&g, BOB, "HEAD", "/bucket/in/none").await, 404);
    assert_eq!(status(&g, BOB, "GET", "/bucket/in/none").await, 404);
    assert_eq!(status(&g, BOB, "HEAD", "/bucket/none").await, 403);
    assert_eq!(status(&g, BOB, "GET", "/bucket/in/a").await, 403);
}

#[tokio::test]
async fn forms_are_judged_by_their_fields() {
    let everybody = |resource: &str, condition: &str| statement("Allow", r#""*""#, r#""s3:PutObject""#, resource, condition);
    let g = with(&[everybody(r#""arn:aws:s3:::bucket/up/*""#, r#""StringEqualsIfExists":{"s3:x-amz-acl":"private"}"#)]).await;
    let post = |fields: &[(&str, &str)]| {
        let body = forms::raw_form(fields, "hello");
        async { forms::post(&g, body).await.status }
    };
    assert_eq!(post(&[("key", "up/a")]).await, 204);
    assert_eq!(post(&[("key", "down/a")]).await, 403);
    assert_eq!(post(&[("key", "up/b"), ("acl", "private")]).await, 204);
    assert_eq!(post(&[("key", "up/c"), ("acl", "public-read")]).await, 403);
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    assert_eq!(post(&[("key", "up/d"), ("tagging", tags)]).await, 403, "to tag is an action of its own");
    assert_eq!(g.get("/bucket?prefix=up/").await.elements("Key"), ["up/a", "up/b"]);
    let denied = document(&[deny(r#""s3:PutObject""#, r#""StringEquals":{"s3:authType":"POST"}"#)]);
    assert_eq!(g.put("/bucket?policy", denied).await.status, 204);
    assert_eq!(g.ask("PUT", "/bucket?acl").header("x-amz-acl", "public-read-write").send().await.status, 200);
    assert_eq!(post(&[("key", "e")]).await, 403);
    assert_eq!(g.ask("PUT", "/bucket/e").anonymous().body("x").send().await.status, 200, "only forms are denied");
}

#[tokio::test]
async fn public_policies_may_be_blocked() {
    let block = |g: &Gateway, name: &str| {
        let document = format!("<PublicAccessBlockConfiguration><{name}>true</{name}></PublicAccessBlockConfiguration>");
        let ask = g.ask("PUT", "/bucket?publicAccessBlock").body(document);
        async move { assert_eq!(ask.send().await.status, 200) }
    };
    let public = statement("Allow", r#""*""#, r#""s3:GetObject""#, ALL, "");
    let g = with(&[public.clone(), allow(r#""s3:GetObject""#, "")]).await;
    assert_eq!(g.ask("GET", "/bucket/a").anonymous().send().await.status, 200);
    block(&g, "RestrictPublicBuckets").await;
    assert_eq!(g.ask("GET", "/bucket/a").anonymous().send().await.status, 403);
    assert_eq!(status(&g, BOB, "GET", "/bucket/a").await, 403, "a public policy lets in nobody from outside");
    assert_eq!(status(&g, ANN, "GET", "/bucket/a").await, 200);
    assert_eq!(g.put("/bucket?policy", document(&[allow(r#""s3:GetObject""#, "")])).await.status, 204);
    assert_eq!(status(&g, BOB, "GET", "/bucket/a").await, 200, "this one is not public");
    block(&g, "BlockPublicPolicy").await;
    assert_eq!(g.put("/bucket?policy", document(&[public])).await.error(), (403, "AccessDenied"));
    assert_eq!(g.put("/bucket?policy", document(&[deny(r#""s3:PutObject""#, "")])).await.status, 204);
}

#[tokio::test]
async fn a_policy_gives_away_only_what_is_the_owners() {
    let g = with(&[allow(r#""s3:PutObject""#, ""), statement("Allow", r#""*""#, r#""s3:GetObject""#, ALL, "")]).await;
    assert_eq!(g.ask("PUT", "/bucket/bobs").by(BOB).body("y").send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/a").anonymous().send().await.status, 200);
    assert_eq!(g.ask("GET", "/bucket/bobs").anonymous().send().await.status, 403);
    assert_eq!(g.ask("GET", "/bucket/bobs").by(BOB).send().await.body, b"y");
}

#[tokio::test]
async fn a_list_does_not_outweigh_a_deny() {
    let g = with(&[deny(r#""s3:ListBucket""#, "")]).await;
    assert_eq!(g.ask("PUT", "/bucket?acl").header("x-amz-acl", "public-read").send().await.status, 200);
    assert_eq!(status(&g, BOB, "GET", "/bucket").await, 403);
    assert_eq!(g.ask("GET", "/bucket").anonymous().send().await.status, 403);
    assert_eq!(status(&g, BOB, "GET", "/bucket?versions").await, 200);
}
