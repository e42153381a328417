use super::*;

const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.a.test</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
    <AllowedMethod>PUT</AllowedMethod><AllowedHeader>Content-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
    <ExposeHeader>x-amz-request-id</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule><CORSRule>\
    <AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

async fn with_rules() -> Gateway {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.put("/bucket?cors", RULES).await.status, 200);
    g
}

fn preflight(g: &Gateway, target: &str, headers: &[(&str, &str)]) -> gateway::Ask {
    headers.iter().fold(g.ask("OPTIONS", target).anonymous(), |ask, (name, value)| ask.header(name, value))
}

#[tokio::test]
async fn rules_are_put_read_and_deleted() {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.get("/bucket?cors").await.error(), (404, "NoSuchCORSConfiguration"));
    assert_eq!(g.put("/bucket?cors", "<CORSConfiguration/>").await.error(), (400, "MalformedXML"));
    assert_eq!(g.put("/bucket?cors", RULES.replace("GET", "TRACE")).await.error(), (400, "InvalidRequest"));
    assert_eq!(g.put("/bucket?cors", "").await.error(), (400, "MissingRequestBodyError"));
    assert_eq!(g.put("/bucket?cors", RULES).await.status, 200);
    let got = g.get("/bucket?cors").await;
    assert_eq!(got.elements("AllowedOrigin"), ["http://*.a.test", "*"]);
    assert_eq!(got.elements("AllowedMethod"), ["GET", "PUT", "GET"]);
    assert_eq!((got.element("MaxAgeSeconds"), got.element("AllowedHeader")), (Some("60"), Some("Content-*")));
    assert_eq!(g.ask("PUT", "/bucket?cors").by(BOB).body(RULES).send().await.error(), (403, "AccessDenied"));
    assert_eq!(g.ask("DELETE", "/bucket?cors").send().await.status, 204);
    assert_eq!(g.get("/bucket?cors").await.error(), (404, "NoSuchCORSConfiguration"));
    assert_eq!(g.ask("DELETE", "/bucket?cors").send().await.status, 204);
}

#[tokio::test]
async fn a_preflight_needs_no_signature_and_gets_the_rule() {
    let g = with_rules().await;
    let asks = [("origin", "http://x.a.test"), ("access-control-request-method", "PUT")];
    let with_headers = [asks[0], asks[1], ("access-control-request-headers", "Content-Type, content-md5")];
    let got = preflight(&g, "/bucket/k", &with_headers).send().await;
    assert_eq!((got.status, got.body.len()), (200, 0), "{got:?}");
    for (name, value) in [
        ("access-control-allow-origin", "http://x.a.test"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "content-type, content-md5"),
        ("access-control-expose-headers", "ETag, x-amz-request-id"),
        ("access-control-max-age", "60"),
        ("access-control-allow-credentials", "true"),
        ("content-length", "0"),
        ("vary", VARY),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    // The query of a presigned URL is not looked at, right or wrong.
    let presigned = preflight(&g, "/bucket/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", &asks).send().await;
    assert_eq!(presigned.status, 200);
    let host = preflight(&g, "/k", &asks).header("host", "bucket.s3.test").send().await;
    assert_eq!(host.status, 200);
    let all = preflight(&g, "/bucket", &[("origin", "http://y"), ("access-control-request-method", "GET")]).send().await;
    assert_eq!((all.status, all.header("access-control-allow-origin")), (200, "*"));
    assert!(!all.headers.contains_key("access-control-allow-credentials") && !all.headers.contains_key("access-control-max-age"));
}

#[tokio::test]
async fn a_preflight_that_no_rule_allows_is_refused() {
    let g = with_rules().await;
    let origin = ("origin", "http://x.a.test");
    let method = |m| ("access-control-request-method", m);
    let missing = preflight(&g, "/bucket/k", &[method("GET")]).send().await;
    assert_eq!(missing.error(), (400, "BadRequest"));
    assert_eq!(missing.element("Message"), Some("Insufficient information. Origin request header needed."));
    let missing = preflight(&g, "/bucket/k", &[origin]).send().await;
    assert_eq!(missing.error(), (400, "BadRequest"));
    assert_eq!(missing.element("Message"), Some("Invalid Access-Control-Request-Method: null"));
    let odd = preflight(&g, "/bucket/k", &[origin, method("TRACE")]).send().await;
    assert_eq!(odd.element("Message"), Some("Invalid Access-Control-Request-Method: TRACE"));
    let header = ("access-control-request-headers", "x-other");
    for asks in [vec![origin, method("DELETE")], vec![origin, method("PUT"), header], vec![("origin", "http://y"), method("PUT")]]
    {
        let refused = preflight(&g, "/bucket/k", &asks).send().await;
        assert_eq!(refused.error(), (403, "AccessForbidden"), "{asks:?}");
        assert!(refused.element("Message").unwrap().starts_with("CORSResponse: This CORS request is not allowed."));
        assert_eq!(refused.element("ResourceType"), Some("OBJECT"));
        assert!(!refused.headers.contains_key("access-control-allow-origin"));
    }
    g.ask("DELETE", "/bucket?cors").send().await;
    let off = preflight(&g, "/bucket", &[origin, method("GET")]).send().await;
    assert_eq!(off.error(), (403, "AccessForbidden"));
    assert_eq!(off.element("Message"), Some("CORSResponse: CORS is not enabled for this bucket."));
    assert_eq!((off.element("Method"), off.element("ResourceType")), (Some("GET"), Some("BUCKET")));
    let none = preflight(&g, "/none-such", &[origin, method("GET")]).send().await;
    assert_eq!((none.error(), none.element("Message")), ((403, "AccessForbidden"), Some("CORSResponse: Bucket not found")));
}

#[tokio::test]
async fn answers_say_which_page_may_read_them() {
    let g = with_rules().await;
    let put = g.ask("PUT", "/bucket/k").header("origin", "http://x.a.test").body("x").send().await;
    assert_eq!((put.status, put.header("access-control-allow-origin"), put.header("vary")), (200, "http://x.a.test", VARY));
    assert_eq!(put.header("access-control-expose-headers"), "ETag, x-amz-request-id");
    let other = g.ask("PUT", "/bucket/k").header("origin", "http://y").body("x").send().await;
    assert_eq!(other.status, 200, "who may write is not a matter of CORS");
    assert!(!other.headers.contains_key("access-control-allow-origin"));
    assert_eq!(other.header("vary"), VARY);
    let open = g.ask("GET", "/bucket/k").header("origin", "http://y").send().await;
    assert_eq!((open.header("access-control-allow-origin"), open.header("access-control-allow-methods")), ("*", "GET"));
    let missing = g.ask("GET", "/bucket/none").header("origin", "http://x.a.test").send().await;
    assert_eq!((missing.error(), missing.header("access-control-allow-origin")), ((404, "NoSuchKey"), "http://x.a.test"));
    let denied = g.ask("GET", "/bucket/k").by(BOB).header("origin", "http://y").send().await;
    assert_eq!((denied.error(), denied.header("access-control-allow-origin")), ((403, "AccessDenied"), "*"));
    let forged = g.ask("GET", "/bucket/k").by((ANN.0, "x")).header("origin", "http://y").send().await;
    assert_eq!((forged.error(), forged.header("access-control-allow-origin")), ((403, "SignatureDoesNotMatch"), "*"));
    let plain = g.get("/bucket/k").await;
    assert!(!plain.headers.contains_key("access-control-allow-origin") && !plain.headers.contains_key("vary"));
}
