#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic, and reports what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::registry::SHARDS;
use super::sweep::{close, once};
use super::*;

const IDLE: Duration = Duration::from_secs(300);
const IDLE_MS: u64 = 300_000;

fn registry() -> Registry {
    Registry::new(Settings::default())
}

/// A moment at which everything that is open now has been idle for long.
fn much_later(registry: &Registry) -> u64 {
    registry.now() + IDLE_MS + 1
}

#[test]
fn drop_closes_wherever_it_happens() {
    let registry = registry();
    let kept = registry.open("b", "kept", Purpose::Read);
    drop(registry.open("b", "k", Purpose::Read));
    let panicking = registry.clone();
    let thread = std::thread::spawn(move || {
        let _guard = panicking.open("b", "k", Purpose::Write);
        std::panic::resume_unwind(Box::new("on its way"));
    });
    assert!(thread.join().is_err());
    assert_eq!(registry.len(), 1);
    drop(kept);
    assert!(registry.is_empty());
    assert_eq!(registry.counters(), Counters { opened: 3, reaped: 0 });
}

#[tokio::test]
async fn an_aborted_task_closes_its_handle() {
    let registry = registry();
    let theirs = registry.clone();
    let task = tokio::spawn(async move {
        let guard = theirs.open("b", "k", Purpose::Read);
        guard.closed().await;
    });
    while registry.is_empty() {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(registry.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_open_touch_and_close_at_once() {
    let registry = registry();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let registry = registry.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    let guard = registry.open("bucket", &format!("{n}/{round}"), Purpose::Write);
                    guard.touch();
                    tokio::task::yield_now().await;
                    let busy = guard.busy();
                    tokio::task::yield_now().await;
                    drop(busy);
                    assert!(!guard.is_closed());
                }
            })
        })
        .collect();
    let sweeping = registry.clone();
    let sweeper = tokio::spawn(async move {
        for _ in 0..200 {
            assert_eq!(once(&sweeping, sweeping.now(), IDLE, Duration::ZERO).await, 0);
            tokio::task::yield_now().await;
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    sweeper.await.unwrap();
    assert!(registry.is_empty());
    assert_eq!(registry.counters(), Counters { opened: 10_000, reaped: 0 });
}

#[test]
fn a_handle_that_moves_between_look_and_removal_survives() {
    let registry = registry();
    let (still, moved, began) = (
        registry.open("b", "still", Purpose::Read),
        registry.open("b", "moved", Purpose::Read),
        registry.open("b", "began", Purpose::Part),
    );
    let now = much_later(&registry);
    let candidates = registry.identify(now, IDLE_MS);
    assert_eq!(candidates.len(), 3);
    moved.entry().touch(now);
    began.entry().begin(now - IDLE_MS);
    let removed = registry.remove_idle(&candidates, now, IDLE_MS);
    assert_eq!(removed.len(), 1);
    assert_eq!(registry.len(), 2);
    assert!(still.is_closed() && !moved.is_closed() && !began.is_closed());
}

#[test]
fn a_handle_that_moves_between_decision_and_closing_survives() {
    let registry = registry();
    let guard = registry.open("b", "k", Purpose::Read);
    let entry = guard.entry();
    let moves: [fn(&super::entry::Entry); 3] = [|e| e.touch(7_000_000), |e| e.begin(0), |e| e.end(0)];
    for moves in moves {
        let seen = entry.word();
        moves(entry);
        assert!(!entry.close_if(seen) && !guard.is_closed());
    }
    assert!(entry.close_if(entry.word()) && guard.is_closed());
}

#[tokio::test]
async fn io_under_way_is_never_reaped() {
    let registry = registry();
    let guard = registry.open("b", "k", Purpose::Write);
    let (first, second) = (guard.busy(), guard.busy());
    assert_eq!(once(&registry, much_later(&registry), IDLE, Duration::ZERO).await, 0);
    drop(first);
    assert_eq!(once(&registry, much_later(&registry), IDLE, Duration::ZERO).await, 0);
    drop(second);
    assert_eq!(once(&registry, registry.now(), IDLE, Duration::ZERO).await, 0, "the end of I/O is a movement");
    assert_eq!(once(&registry, much_later(&registry), IDLE, Duration::ZERO).await, 1);
    assert!(guard.is_closed());
}

#[tokio::test]
async fn the_sweep_tells_the_owner_who_lets_go() {
    let registry = registry();
    let fresh = Arc::new(registry.open("b", "fresh", Purpose::Read));
    let abandoned = registry.open("b", "abandoned", Purpose::Read);
    let owner = tokio::spawn(async move {
        abandoned.closed().await;
        assert!(abandoned.is_closed());
    });
    let now = much_later(&registry);
    fresh.entry().touch(now);
    // The timeout is far away: the sweep ends because the owner let go.
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), once(&registry, now, IDLE, IDLE)).await.unwrap(), 1);
    owner.await.unwrap();
    assert!(!fresh.is_closed());
    assert_eq!((registry.len(), registry.counters()), (1, Counters { opened: 2, reaped: 1 }));
}

#[tokio::test]
async fn owners_that_do_not_let_go_are_waited_for_together() {
    let registry = registry();
    let stubborn: Vec<_> = (0..100).map(|n| registry.open("b", &n.to_string(), Purpose::Read)).collect();
    let now = much_later(&registry);
    let removed = registry.remove_idle(&registry.identify(now, IDLE_MS), now, IDLE_MS);
    let began = Instant::now();
    close(&removed, Duration::from_millis(100)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "one after the other would take 10 s");
    assert!(stubborn.iter().all(Guard::is_closed));
    assert!(registry.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_let_go_holds_up_no_later_sweep() {
    let registry = registry();
    let _sweep = Sweep::start(registry.clone(), Duration::from_millis(1), Duration::ZERO);
    // Its owner hears of it and goes on holding it.
    let stubborn = registry.open("b", "stubborn", Purpose::Write);
    stubborn.closed().await;
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        let later = registry.open("b", "later", Purpose::Read);
        tokio::time::timeout(Duration::from_secs(20), later.closed()).await.unwrap();
    }
    // The time that a sweep gives an owner is five seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "each waited for the stubborn one");
    assert!(registry.is_empty());
}

#[tokio::test]
async fn the_sweep_runs_and_stops_on_drop() {
    let registry = registry();
    let sweep = Sweep::start(registry.clone(), Duration::from_millis(1), Duration::ZERO);
    let guard = registry.open("b", "k", Purpose::Read);
    tokio::time::timeout(Duration::from_secs(20), guard.closed()).await.unwrap();
    drop(guard);
    let task = sweep.handle();
    drop(sweep);
    tokio::time::timeout(Duration::from_secs(20), async {
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn close_all_closes_all_also_in_the_middle_of_io() {
    let registry = registry();
    let guards: Vec<_> = (0..5).map(|n| registry.open("b", &n.to_string(), Purpose::Part)).collect();
    let busy = guards[0].busy();
    assert_eq!(registry.close_all(), 5);
    for guard in &guards {
        guard.closed().await;
    }
    drop(busy);
    assert_eq!((registry.len(), registry.close_all()), (0, 0));
}

#[test]
fn a_hundred_thousand_handles_are_small_even_and_quick() {
    const COUNT: usize = 100_000;
    let registry = registry();
    let began = Instant::now();
    // 45 bytes of key and 9 of bucket.
    let guards: Vec<_> = (0..COUNT)
        .map(|n| registry.open("my-bucket", &format!("photos/2024/07/a-fairly-long-name-{n:06}.jpeg"), Purpose::Read))
        .collect();
    guards.iter().for_each(Guard::touch);

    let shards = registry.shard_sizes();
    let mean = COUNT as f64 / SHARDS as f64;
    assert_eq!((shards.len(), shards.iter().sum::<usize>()), (SHARDS, COUNT));
    assert!(shards.iter().all(|n| (*n as f64 - mean).abs() <= 0.2 * mean), "{shards:?}");

    let bytes = guards[0].entry().footprint() + registry.slot_bytes() / COUNT;
    println!("{bytes} bytes per handle");
    assert!(bytes <= 200, "{bytes} bytes per handle");

    assert_eq!(registry.len(), COUNT);
    drop(guards);
    let rate = 3.0 * COUNT as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} operations per second");
    assert!(rate >= 10_000.0);
    assert!(registry.is_empty());
}

#[test]
fn a_snapshot_is_bounded_and_begins_with_the_oldest() {
    let registry = registry();
    let guards: Vec<_> = (0..10).map(|n| registry.open("bücket", &format!("ключ/{n}"), Purpose::Write)).collect();
    let all = registry.snapshot(usize::MAX);
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by(|a, b| a.age >= b.age));
    assert!(all.iter().all(|h| h.bucket == "bücket" && h.key.starts_with("ключ/") && h.purpose == Purpose::Write));
    assert_eq!(registry.snapshot(3).len(), 3);
    drop(guards);
    assert!(registry.snapshot(3).is_empty());
}

#[test]
fn an_overlong_bucket_name_does_no_harm() {
    let guard = registry().open(&"ü".repeat(70_000), "k", Purpose::Read);
    assert_eq!(guard.entry().bucket_and_key(), (&*"ü".repeat(127), "k"));
}
