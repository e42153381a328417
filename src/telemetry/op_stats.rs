//! Statistics of the last operations: a ring of fixed size, so that memory stays what it is after a million of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// How many operations are remembered.
const KEPT: usize = 10_000;

/// The last operations.
#[derive(Debug, Default)]
pub struct OpStats {
    on: AtomicBool,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// At most [`KEPT`]; older ones are overwritten.
    ops: Vec<Op>,
    next: usize,
}

/// An operation that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Op {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Which.
    pub op: &'static str,
    /// How long until the head of its answer, in milliseconds.
    pub ms: f32,
    /// Whether the gateway failed it.
    pub failed: bool,
}

/// What is told of the operations of one name, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// All of them together.
    pub total: f64,
    /// The mean.
    pub avg: f64,
    /// 95 of 100 were no slower.
    pub p95: f64,
    /// 99 of 100 were no slower.
    pub p99: f64,
}

static STATS: LazyLock<OpStats> = LazyLock::new(OpStats::default);

/// The statistics of this process.
#[must_use]
pub fn op_stats() -> &'static OpStats {
    &STATS
}

impl OpStats {
    /// Begins to remember, or stops and forgets.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        if !on {
            self.clear();
        }
    }

    /// Whether operations are remembered.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Remembers one.
    pub fn note(&self, op: &'static str, secs: f64, failed: bool) {
        if !self.is_on() {
            return;
        }
        let at_ms = now_ms();
        #[allow(clippy::cast_possible_truncation, reason = "seven digits are enough for a duration")]
        let op = Op { at_ms, op, ms: (secs * 1e3) as f32, failed };
        let mut ring = self.ring.lock();
        if ring.ops.len() < KEPT {
            ring.ops.push(op);
            return;
        }
        let next = ring.next;
        if let Some(slot) = ring.ops.get_mut(next) {
            *slot = op;
        }
        ring.next = (next + 1) % KEPT;
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.ring.lock() = Ring::default();
    }

    /// All that are remembered, the oldest first.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        let ring = self.ring.lock();
        let (newer, older) = ring.ops.split_at(ring.next.min(ring.ops.len()));
        older.iter().chain(newer).copied().collect()
    }

    /// Those of the last so many milliseconds.
    #[must_use]
    pub fn since(&self, ms: u64) -> Vec<Op> {
        let from = now_ms().saturating_sub(ms);
        self.ops().into_iter().filter(|op| op.at_ms >= from).collect()
    }

    /// As `timestamp,operation,duration_ms` lines.
    #[must_use]
    pub fn csv(&self) -> String {
        use std::fmt::Write as _;
        let mut text = "timestamp,operation,duration_ms\n".to_owned();
        for op in self.ops() {
            let _ = writeln!(text, "{},{},{:.3}", op.at_ms, op.op, op.ms);
        }
        text
    }

    /// By operation.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<&'static str, Summary> {
        let mut by_op: BTreeMap<&'static str, Vec<f32>> = BTreeMap::new();
        for op in self.ops() {
            by_op.entry(op.op).or_default().push(op.ms);
        }
        by_op.into_iter().map(|(op, ms)| (op, summarize(ms))).collect()
    }
}

/// A percentile by nearest rank; 0 of none.
#[must_use]
pub fn percentile(sorted: &[f32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().map_or(0.0, f64::from)
}

fn summarize(mut ms: Vec<f32>) -> Summary {
    ms.sort_by(f32::total_cmp);
    let total: f64 = ms.iter().copied().map(f64::from).sum();
    let count = ms.len();
    Summary { count, total, avg: total / count.max(1) as f64, p95: percentile(&ms, 95), p99: percentile(&ms, 99) }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_take_what_ten_thousand_take() {
        let stats = OpStats::default();
        stats.note("GetObject", 1.0, false);
        assert!(stats.ops().is_empty(), "off by itself");
        stats.switch(true);
        for number in 0..1_000_000_u32 {
            stats.note("GetObject", f64::from(number) / 1e3, false);
        }
        let ops = stats.ops();
        assert_eq!(ops.len(), KEPT);
        assert_eq!((ops[0].ms, ops[KEPT - 1].ms), (990_000.0, 999_999.0));
        assert!(stats.ring.lock().ops.capacity() * size_of::<Op>() <= 1 << 20);
        stats.clear();
        assert!(stats.summary().is_empty());
    }

    #[test]
    fn what_is_told() {
        let stats = OpStats::default();
        stats.switch(true);
        for ms in 1..=100 {
            stats.note("PutObject", f64::from(ms) / 1e3, false);
        }
        stats.note("GetObject", 0.0025, true);
        let told = stats.summary();
        assert_eq!(told["PutObject"], Summary { count: 100, total: 5050.0, avg: 50.5, p95: 95.0, p99: 99.0 });
        let csv = stats.csv();
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("timestamp,operation,duration_ms"));
        assert!(csv.lines().last().is_some_and(|line| line.ends_with(",GetObject,2.500")), "{csv}");
        assert_eq!(stats.since(60_000).len(), 101);
    }
}
