//! Signature Version 2. The strings to sign are written out here as the documentation gives them.
use super::*;
use crate::s3::{Settings, SignatureV2};

const SOON: i64 = 60;

fn expires(seconds: i64) -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp() + seconds
}

fn sign(text: &str) -> String {
    let signature = s3s_sigv2::calculate_signature(ANN.1, text);
    signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// A presigned URL: `amz` and `kind` are the headers it was signed for, `resource` is what is signed of path and query.
fn url(method: &str, resource: &str, kind: &str, amz: &str, expires: i64) -> String {
    let signature = sign(&format!("{method}\n\n{kind}\n{expires}\n{amz}{resource}"));
    let mark = if resource.contains('?') { '&' } else { '?' };
    format!("{resource}{mark}AWSAccessKeyId={}&Expires={expires}&Signature={signature}", ANN.0)
}

async fn gateway(signature_v2: SignatureV2) -> Gateway {
    let domains = vec!["s3.test".to_owned()];
    let g = Gateway::with(Settings { signature_v2, domains, ..Settings::default() }).await;
    g.put("/bucket", "").await;
    g.put("/bucket/k", "hello").await;
    g
}

#[tokio::test]
async fn presigned_urls_work_by_default() {
    let g = gateway(Settings::default().signature_v2).await;
    let ask = |method: &str, url: String| g.ask(method, &url).anonymous();
    assert_eq!(ask("GET", url("GET", "/bucket/k", "", "", expires(SOON))).send().await.body, b"hello");
    let head = ask("HEAD", url("HEAD", "/bucket/k", "", "", expires(SOON))).send().await;
    assert_eq!((head.status, head.header("content-length")), (200, "5"));
    let named = ask("GET", url("GET", "/bucket/k?response-content-type=a/b", "", "", expires(SOON))).send().await;
    assert_eq!((named.status, named.header("content-type")), (200, "a/b"));
    let put = ask("PUT", url("PUT", "/bucket/new", "text/plain", "x-amz-meta-a:1\n", expires(SOON)));
    let put = put.header("content-type", "text/plain").header("x-amz-meta-a", "1").body("new").send().await;
    assert_eq!(put.status, 200);
    let got = g.get("/bucket/new").await;
    assert_eq!((got.body.as_slice(), got.header("x-amz-meta-a"), got.header("content-type")), (&b"new"[..], "1", "text/plain"));
    assert_eq!(ask("DELETE", url("DELETE", "/bucket/new", "", "", expires(SOON))).send().await.status, 204);
    // The path of a bucket is signed with a slash by some clients and without one by others.
    for signed in ["/bucket", "/bucket/"] {
        let link = url("GET", signed, "", "", expires(SOON)).replacen("/bucket/?", "/bucket?", 1) + "&list-type=2&prefix=k";
        let list = ask("GET", link.clone()).send().await;
        assert_eq!((list.status, list.elements("Key")), (200, vec!["k"]), "{signed}");
        assert_eq!(ask("HEAD", link).send().await.status, 403);
    }
    let foreign = url("GET", "/bucket/", "", "", expires(SOON)).replacen("/bucket/?", "/bucke2?", 1);
    assert_eq!(ask("GET", foreign).send().await.error(), (403, "SignatureDoesNotMatch"));
    // Virtual hosts: the bucket is signed wherever it stands.
    let link = url("GET", "/bucket/k", "", "", expires(SOON)).replacen("/bucket", "", 1);
    assert_eq!(g.ask("GET", &link).anonymous().header("host", "bucket.s3.test").send().await.body, b"hello");
    assert_eq!(g.ask("GET", &link).anonymous().header("host", "other.s3.test").send().await.status, 403);
}

#[tokio::test]
async fn a_url_is_good_for_one_thing_and_for_its_time() {
    let g = gateway(SignatureV2::Presigned).await;
    let ask = |method: &str, url: String| g.ask(method, &url).anonymous();
    let late = ask("GET", url("GET", "/bucket/k", "", "", expires(-5))).send().await;
    assert_eq!((late.error(), late.element("Message")), ((403, "AccessDenied"), Some("Request has expired")));
    let good = url("GET", "/bucket/k", "", "", expires(SOON));
    let mismatch = (403, "SignatureDoesNotMatch");
    assert_eq!(ask("PUT", good.clone()).body("x").send().await.error(), mismatch);
    assert_eq!(ask("GET", good.replace("/k?", "/l?")).send().await.error(), mismatch);
    assert_eq!(ask("GET", format!("{good}&response-content-type=text/html")).send().await.error(), mismatch);
    assert_eq!(ask("GET", format!("{good}&versionId=null")).send().await.error(), mismatch);
    assert_eq!(ask("GET", format!("{good}&acl")).send().await.error(), mismatch);
    // What the signature does not cover may not choose the operation.
    let denied = (403, "AccessDenied");
    assert_eq!(ask("GET", format!("{good}&attributes")).send().await.error(), denied);
    assert_eq!(ask("GET", format!("{good}&acl&acl")).send().await.error(), denied);
    let put = url("PUT", "/bucket/k", "", "", expires(SOON));
    assert_eq!(ask("PUT", put.clone()).header("x-amz-copy-source", "bucket/k").send().await.error(), mismatch);
    assert_eq!(ask("PUT", put.clone()).header("x-amz-meta-a", "1").body("x").send().await.error(), mismatch);
    assert_eq!(ask("PUT", put.clone()).header("content-type", "text/html").body("x").send().await.error(), mismatch);
    let twice = ask("PUT", put.clone()).header("content-type", "text/html").header("content-type", "text/html");
    assert_eq!(twice.body("x").send().await.error(), denied);
    assert_eq!(ask("PUT", format!("{put}&tagging&tagging")).body("x").send().await.error(), denied);
    assert_eq!(ask("PUT", format!("{put}&retention")).body("x").send().await.error(), denied);
    // A session token is signed as a header would be: one that is added later breaks the signature.
    assert_eq!(ask("GET", format!("{good}&x-amz-security-token=t")).send().await.error(), (403, "SignatureDoesNotMatch"));
    let unfinished = good.split("&Expires").next().unwrap().to_owned() + "&Signature=x";
    assert_eq!(ask("GET", unfinished).send().await.error(), denied);
    assert_eq!(ask("GET", good.replace(ANN.0, BOB.0)).send().await.error(), mismatch);
    assert_eq!(g.get("/bucket/k").await.body, b"hello");
}

#[tokio::test]
async fn the_setting_says_where() {
    let header = |g: &Gateway| {
        let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc2822).unwrap();
        let date = now.replace("+0000", "GMT");
        let signature = s3s_sigv2::calculate_signature(ANN.1, &format!("GET\n\n\n{date}\n/bucket/k"));
        g.ask("GET", "/bucket/k").anonymous().header("date", &date).header("authorization", &format!("AWS {}:{signature}", ANN.0))
    };
    let link = || url("GET", "/bucket/k", "", "", expires(SOON));
    let refused = (400, "InvalidRequest");

    let g = gateway(SignatureV2::On).await;
    assert_eq!(header(&g).send().await.status, 200);
    assert_eq!(g.ask("GET", &link()).anonymous().send().await.status, 200);

    let dated =
        |date: &str| g.ask("GET", "/bucket/k").anonymous().header("date", date).header("authorization", "AWS ANNSKEY:abcd");
    assert_eq!(dated("soon").send().await.error(), (403, "AccessDenied"));
    assert_eq!(dated("Sun, 06 Nov 1994 08:49:37 GMT").send().await.error(), (403, "RequestTimeTooSkewed"));

    let g = gateway(SignatureV2::Presigned).await;
    let answer = header(&g).send().await;
    assert_eq!((answer.error(), answer.element("Resource")), (refused, Some("/bucket/k")));
    assert!(answer.element("Message").unwrap().contains("AWS4-HMAC-SHA256"));

    let g = gateway(SignatureV2::Off).await;
    assert_eq!(header(&g).send().await.error(), refused);
    assert_eq!(g.ask("GET", &link()).anonymous().send().await.error(), refused);
    let form = forms::form_v2(&[("key", "f")], ",[\"eq\",\"$key\",\"f\"]", "x");
    assert_eq!(forms::post(&g, form).await.error(), refused);
}
