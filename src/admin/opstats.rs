//! `/api/v1/opstats`: the last operations. `/api/v1/alerts`: what is wrong by them.

use std::fs;

use http::StatusCode;
use serde::Serialize;

use super::answer::{Answer, Failure, json, with};
use super::service::Parts;
use crate::telemetry::{op_stats, percentile};

/// The time that alerts look back on.
const WINDOW_MS: u64 = 5 * 60 * 1000;
/// With fewer operations than these in it there is no talk of rates.
const ENOUGH: usize = 20;
/// The limits.
const P99_MS: f64 = 500.0;
const ERROR_PERCENT: f64 = 1.0;
const MEMORY_PERCENT: f64 = 80.0;
const HIT_PERCENT: f64 = 50.0;

#[derive(Serialize)]
struct Told {
    count: usize,
    total: f64,
    avg: f64,
    p95: f64,
    p99: f64,
}

#[derive(Serialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

/// A condition that holds.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Alert {
    trigger: &'static str,
    severity: &'static str,
    message: String,
    suggested_action: &'static str,
}

/// What alerts are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) operations: usize,
    pub(super) failed: usize,
    pub(super) p99_ms: f64,
    pub(super) memory: u64,
    pub(super) memory_limit: u64,
    pub(super) key_hits: u64,
    pub(super) key_misses: u64,
}

/// The statistics: by operation, or one line for each with `format=csv`.
pub(super) fn show(format: &str) -> Result<Answer, Failure> {
    on()?;
    match format {
        "" | "json" => {
            let told = op_stats()
                .summary()
                .into_iter()
                .map(|(op, s)| (op, Told { count: s.count, total: s.total, avg: s.avg, p95: s.p95, p99: s.p99 }));
            Ok(json(StatusCode::OK, &told.collect::<std::collections::BTreeMap<_, _>>()))
        }
        "csv" => Ok(with(StatusCode::OK, "text/csv", op_stats().csv().into())),
        _ => Err(Failure::invalid("`format` is `json` or `csv`.")),
    }
}

/// Begins anew.
pub(super) fn clear() -> Result<(), Failure> {
    on()?;
    op_stats().clear();
    Ok(())
}

fn on() -> Result<(), Failure> {
    if op_stats().is_on() { Ok(()) } else { Err(Failure::no_such("such path: log.op_stats is off")) }
}

/// What is wrong now.
pub(super) fn alerts(parts: &Parts) -> Answer {
    let ops = op_stats().since(WINDOW_MS);
    let mut ms: Vec<f32> = ops.iter().map(|op| op.ms).collect();
    ms.sort_by(f32::total_cmp);
    let cache = parts.tokens.cache_counts();
    let seen = Seen {
        operations: ops.len(),
        failed: ops.iter().filter(|op| op.failed).count(),
        p99_ms: percentile(&ms, 99),
        memory: kib("/proc/self/status", "VmRSS:"),
        memory_limit: if parts.memory_limit > 0 { parts.memory_limit } else { memory_limit() },
        key_hits: cache.hits,
        key_misses: cache.misses,
    };
    json(StatusCode::OK, &Alerts { alerts: judge(&seen) })
}

/// The conditions that hold.
pub(super) fn judge(seen: &Seen) -> Vec<Alert> {
    let share = |part: f64, all: f64| if all > 0.0 { 100.0 * part / all } else { 0.0 };
    let enough = seen.operations >= ENOUGH;
    let errors = share(seen.failed as f64, seen.operations as f64);
    let memory = share(seen.memory as f64, seen.memory_limit as f64);
    let looked = seen.key_hits + seen.key_misses;
    let hits = share(seen.key_hits as f64, looked as f64);
    let conditions = [
        (
            enough && seen.p99_ms > P99_MS,
            "LatencyThreshold",
            "Warning",
            format!("High latency detected: p99 is {:.0} ms, the limit is {P99_MS:.0} ms", seen.p99_ms),
            "Check runtime pool sizes and cache hit rates",
        ),
        (
            enough && errors > ERROR_PERCENT,
            "ErrorRate",
            "Critical",
            format!("High error rate detected: {errors:.1} % of requests fail"),
            "Read the log: every failed request has a line; check /health/ready for mounts and store",
        ),
        (
            memory > MEMORY_PERCENT,
            "MemoryUsage",
            "Warning",
            format!("High memory usage detected: {memory:.0} % of what there is"),
            "Lower mounts.listing_cache_bytes, tokens.cache_capacity and server.max_concurrent_requests",
        ),
        (
            looked >= 1000 && hits < HIT_PERCENT,
            "CacheHitRate",
            "Warning",
            format!("Low cache hit rate detected: {hits:.0} % of access keys are found in the cache"),
            "Raise tokens.cache_capacity, or find out who sends keys that do not exist",
        ),
    ];
    let held = conditions.into_iter().filter(|(holds, ..)| *holds);
    held.map(|(_, trigger, severity, message, suggested_action)| Alert { trigger, severity, message, suggested_action }).collect()
}

/// The memory that there is: of the control groups that the process is confined to, the tightest, or of the machine.
fn memory_limit() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let confined = group_limit(&groups, |folder| fs::read_to_string(format!("/sys/fs/cgroup{folder}/memory.max")).ok());
    confined.unwrap_or_else(|| kib("/proc/meminfo", "MemTotal:"))
}

/// The tightest limit of the group and of those that it is in (cgroups(7), version 2: the line is `0::/path`).
fn group_limit(groups: &str, limit_of: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut folder = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().trim_end_matches('/');
    let mut tightest: Option<u64> = None;
    loop {
        // `max` is no limit.
        let limit = limit_of(folder).and_then(|text| text.trim().parse().ok());
        tightest = tightest.into_iter().chain(limit).min();
        let Some((above, _)) = folder.rsplit_once('/') else { return tightest };
        folder = above;
    }
}

/// A line of a file of the kernel that counts KiB, in bytes.
fn kib(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(seen: &Seen) -> Vec<&'static str> {
        judge(seen).iter().map(|alert| alert.trigger).collect()
    }

    #[test]
    fn the_tightest_group_counts() {
        let limits = |folder: &str| match folder {
            "" => None,
            "/system.slice" => Some("3000\n".to_owned()),
            "/system.slice/sluice.service" => Some("max\n".to_owned()),
            other => unreachable!("{other}"),
        };
        assert_eq!(group_limit("0::/system.slice/sluice.service\n", limits), Some(3000));
        assert_eq!(group_limit("0::/\n", limits), None);
        assert_eq!(group_limit("", |_| Some("5".to_owned())), Some(5));
    }

    #[test]
    fn each_condition_has_its_alert() {
        let calm = Seen { operations: 1000, memory: 10, memory_limit: 100, key_hits: 900, key_misses: 200, ..Seen::default() };
        assert!(judge(&calm).is_empty());
        let slow = Seen { p99_ms: 600.0, ..calm };
        assert_eq!(judge(&slow)[0].suggested_action, "Check runtime pool sizes and cache hit rates");
        assert!(judge(&slow)[0].message.starts_with("High latency detected"));
        assert_eq!(triggers(&slow), ["LatencyThreshold"]);
        assert_eq!(triggers(&Seen { failed: 50, ..calm }), ["ErrorRate"]);
        assert_eq!(triggers(&Seen { memory: 90, ..calm }), ["MemoryUsage"]);
        assert_eq!(triggers(&Seen { key_misses: 5000, ..calm }), ["CacheHitRate"]);
        assert!(judge(&Seen { operations: 3, failed: 3, p99_ms: 900.0, ..Seen::default() }).is_empty(), "too few to tell");
    }
}
