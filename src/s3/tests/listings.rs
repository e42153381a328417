use super::*;

async fn filled(keys: &[&str]) -> Gateway {
    let g = Gateway::with_bucket().await;
    for key in keys {
        let target: String = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string();
        assert_eq!(g.put(&format!("/bucket/{target}"), *key).await.status, 200);
    }
    g
}

fn prefixes(answer: &Answer) -> Vec<&str> {
    answer.elements("CommonPrefixes").iter().filter_map(|p| p.strip_prefix("<Prefix>")?.strip_suffix("</Prefix>")).collect()
}

#[tokio::test]
async fn the_first_version_pages_by_markers() {
    let g = filled(&["a", "a/b", "b/1", "b/2", "c"]).await;
    let all = g.get("/bucket").await;
    assert_eq!((all.elements("Key"), all.element("IsTruncated")), (vec!["a", "a/b", "b/1", "b/2", "c"], Some("false")));
    assert_eq!((all.element("MaxKeys"), all.element("Marker"), all.element("NextMarker")), (Some("1000"), Some(""), None));
    assert_eq!(all.elements("Owner").len(), 5);
    assert_eq!(
        (all.element("DisplayName"), all.element("StorageClass"), all.element("Size")),
        (Some("ann"), Some("STANDARD"), Some("1"))
    );
    assert!(all.element("ETag").unwrap().starts_with("&quot;") && all.element("LastModified").unwrap().ends_with(".000Z"));
    // Without a delimiter there is no NextMarker.
    let page = g.get("/bucket?max-keys=2").await;
    assert_eq!(
        (page.elements("Key"), page.element("IsTruncated"), page.element("NextMarker")),
        (vec!["a", "a/b"], Some("true"), None)
    );
    // With one there is, and a common prefix is not repeated.
    let mut marker = String::new();
    let mut seen = Vec::new();
    loop {
        let page = g.get(&format!("/bucket?delimiter=%2F&max-keys=1&marker={marker}")).await;
        seen.extend(page.elements("Key").into_iter().map(str::to_owned));
        seen.extend(prefixes(&page).into_iter().map(str::to_owned));
        match page.element("NextMarker") {
            Some(next) => marker = next.replace('/', "%2F"),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "a/", "b/", "c"]);
    assert_eq!(g.get("/bucket?marker=b%2F1").await.elements("Key"), ["b/2", "c"]);
}

#[tokio::test]
async fn the_second_version_pages_by_tokens() {
    let g = filled(&["a", "a/b", "b/1", "b/2", "c"]).await;
    let all = g.get("/bucket?list-type=2").await;
    assert_eq!((all.elements("Key").len(), all.element("KeyCount"), all.elements("Owner").len()), (5, Some("5"), 0));
    assert_eq!(g.get("/bucket?list-type=2&fetch-owner=true").await.elements("Owner").len(), 5);
    assert_eq!(g.get("/bucket?list-type=2&start-after=b%2F1").await.elements("Key"), ["b/2", "c"]);
    assert_eq!(g.get("/bucket?list-type=2&prefix=b%2F&delimiter=%2F").await.elements("Key"), ["b/1", "b/2"]);
    let mut token = String::new();
    let mut seen = Vec::new();
    loop {
        let page = g.get(&format!("/bucket?list-type=2&delimiter=%2F&max-keys=1{token}")).await;
        assert_eq!(page.element("KeyCount"), Some("1"));
        seen.extend(page.elements("Key").into_iter().map(str::to_owned));
        seen.extend(prefixes(&page).into_iter().map(str::to_owned));
        match page.element("NextContinuationToken") {
            Some(next) => token = format!("&continuation-token={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "a/", "b/", "c"]);
    // A token outlives what it was made of.
    let page = g.get("/bucket?list-type=2&max-keys=3").await;
    let token = page.element("NextContinuationToken").unwrap();
    g.ask("DELETE", "/bucket/b/1").send().await;
    assert_eq!(g.get(&format!("/bucket?list-type=2&continuation-token={token}")).await.elements("Key"), ["b/2", "c"]);
    let empty = g.get("/bucket?list-type=2&continuation-token=&max-keys=1").await;
    assert_eq!((empty.elements("Key"), empty.element("ContinuationToken")), (vec!["a"], Some("")));
    for bad in ["x", "%21"] {
        assert_eq!(g.get(&format!("/bucket?list-type=2&continuation-token={bad}")).await.error(), (400, "InvalidArgument"));
    }
}

#[tokio::test]
async fn page_sizes() {
    let g = filled(&["a", "b"]).await;
    for version in ["", "&list-type=2"] {
        let none = g.get(&format!("/bucket?max-keys=0{version}")).await;
        assert_eq!((none.status, none.elements("Key").len(), none.element("IsTruncated")), (200, 0, Some("false")));
        let most = g.get(&format!("/bucket?max-keys=99999{version}")).await;
        assert_eq!((most.elements("Key").len(), most.element("MaxKeys")), (2, Some("1000")));
        assert_eq!(g.get(&format!("/bucket?max-keys=blah{version}")).await.error(), (400, "InvalidArgument"));
        assert_eq!(g.get(&format!("/bucket?max-keys=-1{version}")).await.error(), (400, "InvalidArgument"));
        assert_eq!(g.get(&format!("/bucket?max-keys={version}")).await.elements("Key").len(), 2);
    }
}

#[tokio::test]
async fn names_are_encoded_when_asked_and_never_break_a_listing() {
    let g = filled(&["a b/x", "a+c&d", "ctrl\u{1}\u{b}", "é"]).await;
    for version in ["", "&list-type=2"] {
        let plain = g.get(&format!("/bucket?max-keys=9{version}")).await;
        assert_eq!((plain.status, plain.elements("Key")), (200, vec!["a b/x", "a+c&amp;d", "ctrl&#x1;&#xb;", "é"]));
        let encoded = g.get(&format!("/bucket?encoding-type=url&prefix=a&delimiter=%20{version}")).await;
        assert_eq!((encoded.element("EncodingType"), encoded.elements("Key")), (Some("url"), vec!["a%2Bc%26d"]));
        assert_eq!((encoded.element("Delimiter"), prefixes(&encoded)), (Some("%20"), vec!["a%20"]));
        assert_eq!(g.get(&format!("/bucket?encoding-type=odd{version}")).await.error(), (400, "InvalidArgument"));
    }
    let marked = g.get("/bucket?encoding-type=url&marker=a%20c&prefix=%C3%A9").await;
    assert_eq!((marked.element("Marker"), marked.element("Prefix")), (Some("a%20c"), Some("%C3%A9")));
    let after = g.get("/bucket?list-type=2&encoding-type=url&start-after=a%20c").await;
    assert_eq!((after.element("StartAfter"), after.elements("Key")), (Some("a%20c"), vec!["a%2Bc%26d", "ctrl%01%0B", "%C3%A9"]));
}

#[tokio::test]
async fn an_unversioned_bucket_lists_null_versions() {
    let g = filled(&["a", "b", "c/d"]).await;
    let all = g.get("/bucket?versions").await;
    assert_eq!((all.elements("Key"), all.elements("VersionId")), (vec!["a", "b", "c/d"], vec!["null"; 3]));
    assert_eq!(all.elements("IsLatest"), ["true"; 3]);
    let page = g.get("/bucket?versions&max-keys=1").await;
    assert_eq!((page.element("NextKeyMarker"), page.element("NextVersionIdMarker")), (Some("a"), Some("null")));
    let rest = g.get("/bucket?versions&key-marker=a&version-id-marker=null&delimiter=%2F").await;
    assert_eq!((rest.elements("Key"), prefixes(&rest)), (vec!["b"], vec!["c/"]));
}
