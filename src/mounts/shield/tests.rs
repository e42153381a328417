//! The contract through a shield, and what a shield is for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod contract {
    use std::sync::Arc;

    use sluice_provider::conformance::Subject;
    use sluice_provider_memory::{Memory, Settings};

    use super::super::{Shield, ShieldLimits};

    async fn fresh() -> Subject {
        let limits = ShieldLimits::from(&crate::mounts::Settings::default());
        let meter = crate::telemetry::metrics().mount_meter("memory");
        Subject::shared(Arc::new(Shield::new(Arc::new(Memory::new(Settings::default())), limits, meter)))
    }

    sluice_provider::conformance!(fresh);
}

use std::sync::atomic::Ordering;

use super::*;
use crate::mounts::probe::Probe;
use crate::telemetry::Metrics;

fn limits() -> ShieldLimits {
    ShieldLimits { timeout: Duration::from_secs(20), calls: 4, failures: 5, recovery: Duration::from_secs(30) }
}

fn shielded() -> (Arc<Probe>, Shield) {
    let (probe, metrics) = (Probe::new(), Metrics::new());
    let shield = Shield::new(Arc::clone(&probe) as Arc<dyn Provider>, limits(), metrics.mount_meter("probe"));
    (probe, shield)
}

fn key() -> Key {
    Key::new("k").unwrap()
}

async fn kind_of_head(shield: &Shield) -> ErrorKind {
    *shield.head(&key(), &ReadOptions::default()).await.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn reads_are_tried_three_times_and_writes_once() {
    let (probe, shield) = shielded();
    probe.down.store(true, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(kind_of_head(&shield).await, ErrorKind::Unavailable);
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    let calls = probe.take_calls();
    assert_eq!((calls["head"], calls["check"]), (3, 1));
    let change = AttributeChange::default();
    shield.set_attributes(&key(), &change).await.unwrap_err();
    assert_eq!(probe.take_calls()["set_attributes"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_is_down_is_given_a_rest_and_comes_back() {
    let (probe, shield) = shielded();
    probe.down.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(kind_of_head(&shield).await, ErrorKind::Unavailable);
    }
    probe.take_calls();
    let began = Instant::now();
    assert_eq!(kind_of_head(&shield).await, ErrorKind::Unavailable);
    assert!(began.elapsed().is_zero() && probe.take_calls().is_empty(), "refused at once");
    probe.down.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(kind_of_head(&shield).await, ErrorKind::NotFound);
    assert_eq!(kind_of_head(&shield).await, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_no_failure() {
    let (_probe, shield) = shielded();
    for _ in 0..20 {
        assert_eq!(kind_of_head(&shield).await, ErrorKind::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_in_time_and_five_of_them_open_the_circuit() {
    let (probe, shield) = shielded();
    for _ in 0..5 {
        *probe.before_get.lock() = Some(Box::pin(futures::future::pending()));
        let began = Instant::now();
        let error = shield.get(&key(), &ReadOptions::default()).await.unwrap_err();
        assert_eq!((*error.kind(), began.elapsed()), (ErrorKind::TimedOut, Duration::from_secs(20)));
    }
    assert_eq!(kind_of_head(&shield).await, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn so_many_calls_and_no_more_and_they_come_back() {
    let (_probe, shield) = shielded();
    let shield = Arc::new(shield);
    let body = || PutBody::new(Box::pin(futures::stream::pending()), None, Arc::default());
    let hanging: Vec<_> = (0..4)
        .map(|_| {
            let shield = Arc::clone(&shield);
            tokio::spawn(async move { shield.put(&key(), body(), &PutOptions::default()).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(kind_of_head(&shield).await, ErrorKind::Busy);
    // An upload may take as long as its client.
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(kind_of_head(&shield).await, ErrorKind::Busy);
    for put in &hanging {
        put.abort();
    }
    for put in hanging {
        let _ = put.await;
    }
    assert_eq!(kind_of_head(&shield).await, ErrorKind::NotFound);
}
