//! OpenMetrics text to the older Prometheus text format (0.0.4), which every scraper and `promtool check metrics` reads.
//!
//! The two differ where it matters here in that OpenMetrics names a counter's family without its `_total` and ends in `# EOF`
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::HashSet;

/// Rewrites the comment lines; samples are the same in both.
pub(super) fn plain(openmetrics: &str) -> String {
    let counters: HashSet<&str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(openmetrics.len() + 64 * counters.len());
    for line in openmetrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let comment = ["# HELP ", "# TYPE "].into_iter().find_map(|start| Some((start, line.strip_prefix(start)?)));
        match comment.and_then(|(start, rest)| Some((start, rest.split_once(' ')?))) {
            Some((start, (name, rest))) if counters.contains(name) => {
                text.push_str(start);
                text.push_str(name);
                text.push_str("_total ");
                text.push_str(rest);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn counters_keep_their_suffix_in_comments() {
        let text = "# HELP a Help.\n# TYPE a counter\na_total 1\n# HELP b Help.\n# TYPE b gauge\nb 2\n# EOF\n";
        let plain = "# HELP a_total Help.\n# TYPE a_total counter\na_total 1\n# HELP b Help.\n# TYPE b gauge\nb 2\n";
        assert_eq!(super::plain(text), plain);
    }
}
