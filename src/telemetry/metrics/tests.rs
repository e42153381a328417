use super::*;

fn answered<'a>(op: &'static str, status: u16, bucket: &'a str) -> Answered<'a> {
    Answered {
        method: &http::Method::GET,
        op,
        status,
        code: (status >= 400).then_some("NoSuchKey"),
        bucket,
        received: 3,
        sent: 5,
        first_byte_secs: 0.002,
        total_secs: 0.2,
        complete: true,
    }
}

#[test]
fn an_answer_shows_up_in_every_series_it_belongs_to() {
    let metrics = Metrics::new();
    metrics.answered(&answered("GetObject", 200, "photos"));
    metrics.answered(&answered("GetObject", 404, "photos"));
    metrics.set_rate_limits(3, 4, 5);
    metrics.on_scrape(|m| m.set_handles(7, 9));
    metrics.on_scrape(|m| m.set_listing_cache(2, 3, 4, 5));
    let text = metrics.render(false);
    for line in [
        r#"sluice_http_requests_total{method="GET",op="GetObject",status="200",bucket="photos"} 1"#,
        r#"sluice_http_request_duration_seconds_bucket{le="0.5",op="GetObject",status_class="2xx"} 1"#,
        r#"sluice_ttfb_seconds_count{op="GetObject"} 2"#,
        r#"sluice_errors_total{code="NoSuchKey"} 1"#,
        "sluice_http_received_bytes_total 6",
        "sluice_http_sent_bytes_total 10",
        r#"sluice_rate_limited_total{limit="bucket"} 4"#,
        "sluice_open_handles 7",
        "sluice_handles_reaped_total 9",
        "sluice_listing_cache_directories 2",
        "sluice_listing_cache_bytes 3",
        "sluice_listing_directory_reads_total 4",
        "sluice_listing_cache_hits_total 5",
        "# TYPE sluice_http_requests_total counter",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let resident = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes "));
    assert!(resident.and_then(|v| v.parse::<u64>().ok()).is_some_and(|v| v > 100_000), "{resident:?}");
}

#[test]
fn series_stay_bounded_whatever_names_come() {
    let metrics = Metrics::new();
    for i in 0..10_000 {
        let bucket = format!("scan-{i}");
        metrics.answered(&answered("GetObject", 404, &bucket));
    }
    for i in 0..300 {
        let bucket = format!("real-{i}");
        metrics.answered(&answered("GetObject", 200, &bucket));
    }
    let series = metrics.render(false).lines().filter(|l| !l.starts_with('#')).count();
    assert!(series < 200, "{series}");
}

#[test]
fn the_table_names_what_is_scraped() {
    let metrics = Metrics::new();
    metrics.answered(&answered("GetObject", 404, "photos"));
    metrics.set_rate_limits(1, 1, 1);
    metrics.slow("GetObject");
    metrics.set_upstreams(UpstreamCounts { failovers: 1, ..UpstreamCounts::default() });
    metrics.lifecycle_did([("expire", 1)]);
    metrics.mount_meter("local").answered(std::time::Duration::from_millis(1));
    let text = metrics.render(true);
    for row in TABLE {
        assert!(text.contains(&format!("# HELP {} ", row.name.trim_end_matches("_total"))), "{}", row.name);
        assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
        for label in row.labels {
            assert!(text.lines().any(|l| l.starts_with(row.name) && l.contains(&format!("{label}=\""))), "{} {label}", row.name);
        }
    }
    assert!(text.ends_with("# EOF\n"));
}
