use super::*;

const BOUNDARY: &str = "xXformXx";

/// A signed form: fields beside those of the signature, and the conditions that cover them.
fn form(fields: &[(&str, &str)], conditions: &str, file: &str, minutes: i64) -> String {
    let now = time::OffsetDateTime::now_utc();
    let stamp = |t: time::OffsetDateTime| {
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute(), t.second())
    };
    let date = stamp(now).replace(['-', ':'], "");
    let date = s3s_sigv4::AmzDate::parse(&date).unwrap();
    let credential = format!("{}/{}/us-east-1/s3/aws4_request", ANN.0, date.fmt_date());
    let policy = format!(
        "{{\"expiration\":\"{}\",\"conditions\":[{{\"x-amz-credential\":\"{credential}\"}},{{\"x-amz-algorithm\":\"AWS4-HMAC-SHA256\"}},\
         {{\"x-amz-date\":\"{}\"}},{{\"bucket\":\"bucket\"}}{conditions}]}}",
        stamp(now + time::Duration::minutes(minutes)),
        date.fmt_iso8601()
    );
    let policy = base64(policy.as_bytes());
    let signature = s3s_sigv4::calculate_signature(&policy, ANN.1, &date, "us-east-1", "s3");
    let own = [
        ("x-amz-credential", credential.as_str()),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-date", &date.fmt_iso8601()),
        ("policy", &policy),
        ("x-amz-signature", &signature),
    ];
    let mut text = String::new();
    for (name, value) in fields.iter().chain(&own) {
        text += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    text + &format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n"
    )
}

pub(super) async fn post(g: &Gateway, body: String) -> Answer {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    g.ask("POST", "/bucket").anonymous().header("content-type", &content_type).body(body).send().await
}

#[tokio::test]
async fn a_form_stores_its_file() {
    let g = Gateway::with_bucket().await;
    let any = ",[\"starts-with\",\"$key\",\"up/\"],[\"content-length-range\",3,9]";
    let stored = post(&g, form(&[("key", "up/${filename}")], any, "hello", 5)).await;
    assert_eq!((stored.status, stored.body.len(), stored.header("etag")), (204, 0, "\"5d41402abc4b2a76b9719d911017c592\""));
    assert_eq!(g.get("/bucket/up/f.txt").await.body, b"hello");
    assert_eq!(post(&g, form(&[("key", "up/x")], any, "0123456789", 5)).await.error(), (400, "EntityTooLarge"));
    assert_eq!(post(&g, form(&[("key", "up/x")], any, "01", 5)).await.error(), (400, "EntityTooSmall"));
    assert_eq!(post(&g, form(&[("key", "down/x")], any, "hello", 5)).await.status, 403);
    let late = post(&g, form(&[("key", "up/x")], any, "hello", -5)).await;
    assert_eq!(
        (late.error(), late.element("Resource"), late.element("RequestId")),
        ((403, "AccessDenied"), Some("/bucket"), Some("TESTREQUEST"))
    );
    assert_eq!(post(&g, form(&[("key", "up/x"), ("x-amz-meta-a", "1")], any, "hello", 5)).await.error(), (403, "AccessDenied"));
    assert_eq!(g.get("/bucket/up/x").await.status, 404);
    let forged = form(&[("key", "up/x")], any, "hello", 5).replace("x-amz-signature\"\r\n\r\n", "x-amz-signature\"\r\n\r\n0");
    assert_eq!(post(&g, forged).await.status, 403);
    let unsigned = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nx\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--{BOUNDARY}--\r\n"
    );
    assert_eq!(post(&g, unsigned).await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn a_form_sets_what_a_put_sets() {
    let g = Gateway::with_bucket().await;
    let fields = [
        ("key", "k"),
        ("acl", "private"),
        ("content-type", "image/png"),
        ("x-amz-meta-name", "value"),
        ("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"),
        ("success_action_status", "201"),
    ];
    let conditions: String = fields.iter().map(|(n, _)| format!(",[\"starts-with\",\"${n}\",\"\"]")).collect();
    let stored = post(&g, form(&fields, &conditions, "hello", 5)).await;
    assert_eq!((stored.status, stored.element("Key"), stored.element("Bucket")), (201, Some("k"), Some("bucket")));
    assert_eq!(stored.element("ETag"), Some("&quot;5d41402abc4b2a76b9719d911017c592&quot;"));
    let got = g.get("/bucket/k").await;
    assert_eq!(
        (got.header("content-type"), got.header("x-amz-meta-name"), got.header("x-amz-tagging-count")),
        ("image/png", "value", "1")
    );
    assert_eq!(g.ask("GET", "/bucket/k").anonymous().send().await.status, 403);
    let open = [("key", "k2"), ("acl", "public-read")];
    let conditions = ",[\"starts-with\",\"$key\",\"\"],[\"eq\",\"$acl\",\"public-read\"]";
    assert_eq!(post(&g, form(&open, conditions, "x", 5)).await.status, 204);
    assert_eq!(g.ask("GET", "/bucket/k2").anonymous().send().await.body, b"x");
    let away = [("key", "k3"), ("success_action_redirect", "http://example.org/done?a=1")];
    let conditions = ",[\"starts-with\",\"$key\",\"\"],[\"starts-with\",\"$success_action_redirect\",\"\"]";
    let away = post(&g, form(&away, conditions, "hello", 5)).await;
    assert_eq!(away.status, 303);
    assert_eq!(
        away.header("location"),
        "http://example.org/done?a=1&bucket=bucket&key=k3&etag=%225d41402abc4b2a76b9719d911017c592%22"
    );
}

#[tokio::test]
async fn a_form_without_a_signature_needs_an_open_bucket() {
    let g = Gateway::with_bucket().await;
    let form = |fields: &[(&str, &str)]| raw_form(fields, "hello");
    assert_eq!(post(&g, form(&[("key", "a")])).await.error(), (403, "AccessDenied"));
    assert_eq!(g.ask("PUT", "/bucket?acl").header("x-amz-acl", "public-read-write").send().await.status, 200);
    assert_eq!(post(&g, form(&[("key", "a"), ("acl", "public-read")])).await.status, 204);
    let got = g.get("/bucket/a").await;
    assert_eq!((got.status, got.body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(g.get("/bucket/a?acl").await.status, 403, "it is not Ann's");
    // What looks as if it had been signed once is not a form for everybody.
    for field in ["policy", "AWSAccessKeyId", "X-Amz-Credential"] {
        let status = post(&g, form(&[("key", "b"), (field, "x")])).await.status;
        assert!((400..500).contains(&status), "{field}: {status}");
    }
    assert_eq!(post(&g, form(&[("key", "b"), ("acl", "odd")])).await.error(), (400, "InvalidArgument"));
    assert_eq!(g.get("/bucket/b").await.status, 404);
}

/// A form signed with Version 2: the policy alone is signed.
pub(super) fn form_v2(fields: &[(&str, &str)], conditions: &str, file: &str) -> String {
    let policy = format!("{{\"expiration\":\"2099-01-01T00:00:00Z\",\"conditions\":[{{\"bucket\":\"bucket\"}}{conditions}]}}");
    let policy = base64(policy.as_bytes());
    let signature = s3s_sigv2::calculate_signature(ANN.1, &policy);
    raw_form(&[fields, &[("AWSAccessKeyId", ANN.0), ("policy", &policy), ("signature", &signature)]].concat(), file)
}

pub(super) fn raw_form(fields: &[(&str, &str)], file: &str) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        text += &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    text + &format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n"
    )
}

#[tokio::test]
async fn a_form_may_be_signed_with_version_2() {
    let g = Gateway::with_bucket().await;
    let any = ",[\"starts-with\",\"$key\",\"up/\"],[\"content-length-range\",0,9]";
    assert_eq!(post(&g, form_v2(&[("key", "up/${filename}")], any, "hello")).await.status, 204);
    assert_eq!(g.get("/bucket/up/f.txt").await.body, b"hello");
    assert_eq!(post(&g, form_v2(&[("key", "down/x")], any, "hello")).await.error(), (403, "AccessDenied"));
    let more = [("key", "up/x"), ("x-amz-meta-a", "1")];
    assert_eq!(post(&g, form_v2(&more, any, "hello")).await.error(), (403, "AccessDenied"));
    assert_eq!(post(&g, form_v2(&[("key", "up/x")], any, "0123456789")).await.error(), (400, "EntityTooLarge"));
    let forged = form_v2(&[("key", "up/x")], any, "hello").replace("\"signature\"\r\n\r\n", "\"signature\"\r\n\r\nAAAA");
    assert_eq!(post(&g, forged).await.status, 403);
    let token = [("key", "up/x"), ("x-amz-security-token", "t")];
    let with_token = format!("{any},[\"starts-with\",\"$x-amz-security-token\",\"\"]");
    assert_eq!(post(&g, form_v2(&token, &with_token, "hello")).await.error(), (400, "InvalidToken"));
    assert_eq!(g.get("/bucket/up/x").await.status, 404);
}

#[tokio::test]
async fn a_form_must_say_all_of_it() {
    let g = Gateway::with_bucket().await;
    // A policy that nobody signed is not an anonymous form.
    let policy = base64(br#"{"expiration":"2099-01-01T00:00:00Z","conditions":[{"bucket":"other"}]}"#);
    for fields in [&[("key", "k"), ("policy", &*policy)][..], &[("key", "k"), ("AWSAccessKeyId", ANN.0)]] {
        assert_eq!(post(&g, raw_form(fields, "x")).await.error(), (400, "InvalidArgument"));
    }
    // The framework reads this date; the documentation knows no such one.
    let policy = base64(br#"{"expiration":"2099-01-01 00:00:00Z","conditions":[{"bucket":"bucket"},{"key":"k"}]}"#);
    let signature = s3s_sigv2::calculate_signature(ANN.1, &policy);
    let fields = [("key", "k"), ("AWSAccessKeyId", ANN.0), ("policy", &*policy), ("signature", &*signature)];
    assert_eq!(post(&g, raw_form(&fields, "x")).await.error(), (400, "InvalidPolicyDocument"));
    assert_eq!(g.get("/bucket/k").await.status, 404);
}
