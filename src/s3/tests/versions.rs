//! Versions and Object Lock as clients see them.

use super::{Answer, BOB, Gateway, md5};

const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const SUSPENDED: &str = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";

async fn versioned() -> Gateway {
    let g = Gateway::with_bucket().await;
    assert_eq!(g.put("/bucket?versioning", ENABLED).await.status, 200);
    g
}

fn version(answer: &Answer) -> String {
    assert!(answer.status < 300, "{}: {}", answer.status, answer.text());
    answer.header("x-amz-version-id").to_owned()
}

#[tokio::test]
async fn the_state_is_kept_and_validated() {
    let g = Gateway::with_bucket().await;
    assert!(!g.get("/bucket?versioning").await.text().contains("Status"));
    assert_eq!(g.put("/bucket/k", "0").await.header("x-amz-version-id"), "", "no versions, no ids");
    for (document, code) in [
        ("<VersioningConfiguration/>", "IllegalVersioningConfigurationException"),
        ("<VersioningConfiguration><Status>On</Status></VersioningConfiguration>", "MalformedXML"),
        ("<x/>", "MalformedXML"),
    ] {
        assert_eq!(g.put("/bucket?versioning", document).await.error(), (400, code));
    }
    for (document, state) in [(ENABLED, "Enabled"), (SUSPENDED, "Suspended")] {
        assert_eq!(g.put("/bucket?versioning", document).await.status, 200);
        assert_eq!(g.get("/bucket?versioning").await.elements("Status"), [state]);
    }
    assert_eq!(g.ask("PUT", "/bucket?versioning").by(BOB).body(ENABLED).send().await.error(), (403, "AccessDenied"));
}

#[tokio::test]
async fn every_operation_knows_versions() {
    let g = versioned().await;
    let one = version(&g.put("/bucket/k", "one").await);
    let two = version(&g.ask("PUT", "/bucket/k").header("x-amz-tagging", "a=2").body("two").send().await);
    assert!(one != two && one.len() == 32);
    let at = |id: &str| format!("/bucket/k?versionId={id}");
    let got = g.get(&at(&one)).await;
    assert_eq!((got.text(), got.header("x-amz-version-id")), ("one", one.as_str()));
    assert_eq!(version(&g.get("/bucket/k").await), two);
    assert_eq!(g.ask("HEAD", &at(&one)).send().await.header("content-length"), "3");
    let part = g.ask("GET", &at(&one)).header("range", "bytes=1-").send().await;
    assert_eq!((part.status, part.text()), (206, "ne"));
    // Tags and lists of one version.
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    assert_eq!(g.put(&format!("/bucket/k?tagging&versionId={one}"), tags).await.header("x-amz-version-id"), one);
    assert_eq!(g.get(&format!("/bucket/k?tagging&versionId={one}")).await.elements("Value"), ["1"]);
    assert_eq!(g.get("/bucket/k?tagging").await.elements("Value"), ["2"]);
    assert_eq!(g.get(&format!("/bucket/k?acl&versionId={one}")).await.header("x-amz-version-id"), one);
    let attributes = format!("/bucket/k?attributes&versionId={one}");
    let told = g.ask("GET", &attributes).header("x-amz-object-attributes", "ObjectSize").send().await;
    assert_eq!((told.elements("ObjectSize"), told.header("x-amz-version-id")), (vec!["3"], one.as_str()));
    // A copy of an older version onto its key makes it the current one.
    let copy = g.ask("PUT", "/bucket/k").header("x-amz-copy-source", &format!("bucket/k?versionId={one}")).send().await;
    let three = version(&copy);
    assert_eq!(copy.header("x-amz-copy-source-version-id"), one);
    assert_eq!(g.get("/bucket/k").await.text(), "one");
    // Deleting, and what is told of it.
    let deleted = g.ask("DELETE", "/bucket/k").send().await;
    assert_eq!((deleted.status, deleted.header("x-amz-delete-marker")), (204, "true"));
    let marker = version(&deleted);
    let gone = g.get("/bucket/k").await;
    assert_eq!((gone.error(), gone.header("x-amz-delete-marker")), ((404, "NoSuchKey"), "true"));
    let named = g.get(&at(&marker)).await;
    assert_eq!((named.error(), named.header("x-amz-delete-marker")), ((405, "MethodNotAllowed"), "true"));
    assert_eq!(named.header("allow"), "DELETE");
    assert_eq!(g.get(&format!("/bucket/k?tagging&versionId={marker}")).await.error(), (405, "MethodNotAllowed"));
    assert!(!g.get("/bucket?list-type=2").await.text().contains("<Contents>"));
    assert_eq!(g.ask("DELETE", "/bucket").send().await.error(), (409, "BucketNotEmpty"));
    let undone = g.ask("DELETE", &at(&marker)).send().await;
    assert_eq!((undone.header("x-amz-delete-marker"), undone.header("x-amz-version-id")), ("true", marker.as_str()));
    assert_eq!(version(&g.get("/bucket/k").await), three);
    // Many at once.
    let object = |id: &str| format!("<Object><Key>k</Key><VersionId>{id}</VersionId></Object>");
    let document = format!("<Delete>{}{}{}</Delete>", object(&one), object("nope"), "<Object><Key>k</Key></Object>");
    let many = g.ask("POST", "/bucket?delete").header("content-md5", &md5(document.as_bytes())).body(document).send().await;
    assert_eq!((many.elements("Deleted").len(), many.elements("Code")), (2, vec!["InvalidArgument"]));
    let marker = many.elements("DeleteMarkerVersionId")[0].to_owned();
    for id in [&two, &three, &marker] {
        assert_eq!(g.ask("DELETE", &at(id)).send().await.status, 204);
    }
    assert_eq!(g.ask("DELETE", "/bucket").send().await.status, 204);
}

#[tokio::test]
async fn pages_of_versions_go_on_where_they_ended() {
    let g = versioned().await;
    let mut due = Vec::new();
    for key in ["a", "b/1", "b/2", "c"] {
        let one = version(&g.put(&format!("/bucket/{key}"), "1").await);
        let two = version(&g.put(&format!("/bucket/{key}"), "2").await);
        due.extend([two, one]);
    }
    let marker = version(&g.ask("DELETE", "/bucket/c").send().await);
    due.insert(6, marker);
    let (mut ids, mut latest, mut markers) = (Vec::new(), 0, String::new());
    loop {
        let page = g.get(&format!("/bucket?versions&max-keys=2{markers}")).await;
        ids.extend(page.elements("VersionId").iter().map(|id| (*id).to_owned()));
        latest += page.elements("IsLatest").iter().filter(|latest| **latest == "true").count();
        if page.elements("IsTruncated") != ["true"] {
            break;
        }
        let next = |name| page.elements(name)[0].to_owned();
        markers = format!("&key-marker={}&version-id-marker={}", next("NextKeyMarker"), next("NextVersionIdMarker"));
    }
    assert_eq!((ids, latest), (due.clone(), 4));
    let rolled = g.get("/bucket?versions&delimiter=/").await;
    assert_eq!((rolled.elements("VersionId").len(), rolled.elements("DeleteMarker").len()), (5, 1));
    assert!(rolled.text().contains("<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"));
    let after = g.get("/bucket?versions&key-marker=b/1").await;
    assert_eq!(after.elements("VersionId").len(), 5, "a key marker alone is behind all versions of its key");
    assert_eq!(g.get("/bucket?versions&version-id-marker=null").await.error(), (400, "InvalidArgument"));
    assert_eq!(g.get("/bucket?versions&key-marker=a&version-id-marker=x").await.error(), (400, "InvalidArgument"));
    assert_eq!(g.get("/bucket?versions&prefix=b/&max-keys=0").await.elements("VersionId").len(), 0);
}

#[tokio::test]
async fn a_suspended_bucket_has_one_null_version() {
    let g = Gateway::with_bucket().await;
    g.put("/bucket/k", "before").await;
    g.put("/bucket?versioning", ENABLED).await;
    let one = version(&g.put("/bucket/k", "one").await);
    assert_eq!(g.get("/bucket/k?versionId=null").await.text(), "before");
    g.put("/bucket?versioning", SUSPENDED).await;
    assert_eq!(version(&g.put("/bucket/k", "after").await), "");
    assert_eq!(version(&g.get("/bucket/k").await), "null");
    assert_eq!(g.get("/bucket?versions").await.elements("VersionId"), ["null", one.as_str()]);
    assert_eq!(version(&g.ask("DELETE", "/bucket/k").send().await), "null");
    assert_eq!(g.get("/bucket/k").await.error(), (404, "NoSuchKey"));
    assert_eq!(g.ask("DELETE", "/bucket/k?versionId=null").send().await.status, 204);
    assert_eq!(g.get("/bucket/k").await.text(), "one");
}

async fn locked() -> Gateway {
    let g = Gateway::start().await;
    let made = g.ask("PUT", "/bucket").header("x-amz-bucket-object-lock-enabled", "true").send().await;
    assert_eq!(made.status, 200);
    g
}

fn retention(mode: &str, year: u32) -> String {
    format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{year}-01-01T00:00:00Z</RetainUntilDate></Retention>")
}

#[tokio::test]
async fn nothing_that_is_locked_is_removed() {
    let g = locked().await;
    assert_eq!(g.get("/bucket?versioning").await.elements("Status"), ["Enabled"]);
    assert_eq!(g.put("/bucket?versioning", SUSPENDED).await.error(), (409, "InvalidBucketState"));
    let id = version(&g.put("/bucket/k", "x").await);
    let at = format!("/bucket/k?versionId={id}");
    assert_eq!(g.get("/bucket/k?retention").await.error(), (404, "NoSuchObjectLockConfiguration"));
    assert_eq!(g.put("/bucket/k?retention", retention("GOVERNANCE", 2090)).await.status, 200);
    assert_eq!(g.get("/bucket/k?retention").await.elements("RetainUntilDate"), ["2090-01-01T00:00:00.000Z"]);
    let head = g.ask("HEAD", "/bucket/k").send().await;
    assert_eq!(head.header("x-amz-object-lock-mode"), "GOVERNANCE");
    // A marker is no removal; the version stays.
    assert_eq!(g.ask("DELETE", "/bucket/k").send().await.status, 204);
    assert_eq!(g.ask("DELETE", &at).send().await.error(), (403, "AccessDenied"));
    let document = format!("<Delete><Object><Key>k</Key><VersionId>{id}</VersionId></Object></Delete>");
    let many = g.ask("POST", "/bucket?delete").header("content-md5", &md5(document.as_bytes())).body(document).send().await;
    assert_eq!(many.elements("Code"), ["AccessDenied"]);
    let bypass = "x-amz-bypass-governance-retention";
    let shorter = g.put(&format!("/bucket/k?retention&versionId={id}"), retention("GOVERNANCE", 2080)).await;
    assert_eq!(shorter.error(), (403, "AccessDenied"));
    let longer = g.put(&format!("/bucket/k?retention&versionId={id}"), retention("GOVERNANCE", 2095)).await;
    assert_eq!(longer.status, 200);
    let stranger = g.ask("DELETE", &at).by(BOB).header(bypass, "true").send().await;
    assert_eq!(stranger.error(), (403, "AccessDenied"));
    let firm = g.ask("PUT", &format!("/bucket/k?retention&versionId={id}")).header(bypass, "true");
    assert_eq!(firm.body(retention("COMPLIANCE", 2095)).send().await.status, 200);
    let bypassed = g.ask("DELETE", &at).header(bypass, "true").send().await;
    assert_eq!(bypassed.error(), (403, "AccessDenied"), "nobody bypasses compliance");
    assert_eq!(g.get(&at).await.text(), "x");
    // A legal hold holds by itself.
    let held = version(&g.put("/bucket/h", "x").await);
    let hold = |state: &str| format!("<LegalHold><Status>{state}</Status></LegalHold>");
    assert_eq!(g.put("/bucket/h?legal-hold", hold("on")).await.error(), (400, "MalformedXML"));
    assert_eq!(g.put("/bucket/h?legal-hold", hold("ON")).await.status, 200);
    let removal = |g: &Gateway| g.ask("DELETE", &format!("/bucket/h?versionId={held}")).header(bypass, "true");
    assert_eq!(removal(&g).send().await.error(), (403, "AccessDenied"));
    assert_eq!(g.put("/bucket/h?legal-hold", hold("OFF")).await.status, 200);
    assert_eq!(removal(&g).send().await.status, 204);
    assert_eq!(g.ask("DELETE", "/bucket").send().await.error(), (409, "BucketNotEmpty"));
}

#[tokio::test]
async fn new_objects_are_locked_by_headers_and_by_default() {
    let g = locked().await;
    let rule = "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>";
    let document = |rule: &str| {
        format!("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>")
    };
    assert_eq!(g.put("/bucket?object-lock", document(rule)).await.status, 200);
    assert!(g.get("/bucket?object-lock").await.text().contains(rule));
    let id = version(&g.put("/bucket/default", "x").await);
    assert_eq!(g.ask("DELETE", &format!("/bucket/default?versionId={id}")).send().await.error(), (403, "AccessDenied"));
    let copy = g.ask("PUT", "/bucket/copy").header("x-amz-copy-source", "bucket/default").send().await;
    let id = version(&copy);
    assert_eq!(g.ask("DELETE", &format!("/bucket/copy?versionId={id}")).send().await.error(), (403, "AccessDenied"));
    let put = |mode: &str, date: &str| {
        let ask = g.ask("PUT", "/bucket/own").header("content-md5", &md5(b"x")).body("x");
        let ask = if mode.is_empty() { ask } else { ask.header("x-amz-object-lock-mode", mode) };
        if date.is_empty() { ask } else { ask.header("x-amz-object-lock-retain-until-date", date) }
    };
    assert_eq!(put("COMPLIANCE", "2090-01-01T00:00:00Z").send().await.status, 200);
    assert_eq!(g.ask("HEAD", "/bucket/own").send().await.header("x-amz-object-lock-mode"), "COMPLIANCE");
    assert_eq!(put("COMPLIANCE", "").send().await.error(), (400, "InvalidArgument"));
    assert_eq!(put("", "2090-01-01T00:00:00Z").send().await.error(), (400, "InvalidArgument"));
    assert_eq!(put("X", "2090-01-01T00:00:00Z").send().await.error(), (400, "InvalidArgument"));
    assert_eq!(put("COMPLIANCE", "2001-01-01T00:00:00Z").send().await.error(), (400, "InvalidArgument"));
    let bare = g.ask("PUT", "/bucket/own").header("x-amz-object-lock-legal-hold", "ON").body("x").send().await;
    assert_eq!(bare.error(), (400, "InvalidRequest"), "a digest of the body is wanted");
    // A bucket without the lock takes none of it.
    assert_eq!(g.ask("PUT", "/plain").send().await.status, 200);
    let refused = g.ask("PUT", "/plain/k").header("x-amz-object-lock-legal-hold", "ON").body("x").send().await;
    assert_eq!(refused.error(), (400, "InvalidRequest"));
    assert_eq!(g.put("/plain/k?legal-hold", "<LegalHold/>").await.error(), (400, "InvalidRequest"));
    assert_eq!(g.put("/plain?object-lock", document("")).await.error(), (409, "InvalidBucketState"));
}
