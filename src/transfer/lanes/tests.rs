#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::transfer::{Algorithm, Hasher, md5_hex};

fn digests() -> Box<Digests> {
    Box::new(Digests::new(vec![(Algorithm::Sha256, Some(Hasher::new(Algorithm::Sha256)))]))
}

fn check(digests: Digests, body: &[u8]) {
    assert_eq!(hex::encode(digests.md5.finish()), md5_hex(body));
    let sum = digests.sums.into_iter().next().and_then(|(_, sum)| sum).unwrap();
    assert_eq!(sum.finish(), Hasher::once(Algorithm::Sha256, body));
}

fn idle(lanes: &Lanes) -> bool {
    let queue = lanes.0.queue.lock();
    queue.threads == 0 && queue.taken == 0 && queue.waiting.is_empty()
}

async fn until_idle(lanes: &Lanes) {
    while !idle(lanes) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_bodies_at_once_get_their_own_digests() {
    for kernel in Kernel::available() {
        let lanes = Lanes::with(kernel, 3, 1);
        let bodies = (0..60usize).map(|number| {
            let lanes = lanes.clone();
            tokio::spawn(async move {
                let body: Vec<u8> = (0..number * 3001).map(|at| (at * 13 + number) as u8).collect();
                let (mut digests, place) = (digests(), lanes.body());
                for piece in body.chunks(70_001) {
                    let chunks = piece.chunks(9_999).map(Bytes::copy_from_slice).collect();
                    digests = place.hash(digests, chunks).await.unwrap();
                }
                check(*digests, &body);
            })
        });
        for body in bodies.collect::<Vec<_>>() {
            body.await.unwrap();
        }
        until_idle(&lanes).await;
    }
}

#[tokio::test]
async fn what_is_handed_over_while_a_thread_leaves_is_hashed() {
    // A thread that finds nothing to do, with and without another beside it, and a body that comes before it is gone.
    for threads in [1, 2] {
        let lanes = Lanes::with(Kernel::detect(), 2, 1);
        let mut leaving: Vec<_> =
            (0..threads).map(|_| Thread { shared: Arc::clone(&lanes.0), works: Vec::new(), left: false }).collect();
        lanes.0.queue.lock().threads = threads;
        assert!(leaving.iter_mut().all(|thread| !thread.take()));
        let place = lanes.body();
        let told = place.hash(digests(), vec![Bytes::from_static(b"body")]);
        drop(leaving);
        let told = tokio::time::timeout(Duration::from_secs(10), told).await.expect("somebody hashes it");
        check(*told.unwrap(), b"body");
        until_idle(&lanes).await;
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_given_up_and_nothing_is_an_answer_too() {
    let lanes = Lanes::with(Kernel::detect(), 1, 1);
    drop(lanes.body().hash(digests(), vec![Bytes::from(vec![1; 1 << 20])]));
    let empty = lanes.body().hash(digests(), Vec::new()).await.unwrap();
    check(*empty, b"");
    until_idle(&lanes).await;
}

/// A thread that panics takes nobody with it into an endless wait: neither whose bytes it had taken nor who waited for it.
#[tokio::test]
async fn whoever_waits_for_a_thread_that_panics_is_told() {
    let lanes = Lanes::with(Kernel::detect(), 1, 1);
    let work = || {
        let (done, told) = oneshot::channel();
        (Work { digests: digests(), chunks: vec![Bytes::from_static(b"a")], at: (0, 0), done, since: Instant::now() }, told)
    };
    let ((taken, first), (waiting, second)) = (work(), work());
    {
        let mut queue = lanes.0.queue.lock();
        (queue.threads, queue.taken) = (1, 1);
        queue.waiting.push_back(waiting);
    }
    let thread = Thread { shared: Arc::clone(&lanes.0), works: vec![taken], left: false };
    let ended = std::thread::spawn(move || {
        let _thread = thread;
        panic!("on purpose");
    });
    assert!(ended.join().is_err());
    assert!(first.await.is_err() && second.await.is_err());
    assert!(idle(&lanes));
    let digests = lanes.body().hash(digests(), vec![Bytes::from_static(b"b")]).await.unwrap();
    check(*digests, b"b");
}

/// Who has left, or was here long ago, is not waited for.
#[tokio::test]
async fn company_is_who_came_a_moment_ago() {
    let lanes = Lanes::with(Kernel::detect(), 1, 1);
    let (one, two) = (lanes.body(), lanes.body());
    for body in [&one, &two, &one] {
        body.hash(digests(), Vec::new()).await.unwrap();
    }
    let company = || lanes.0.queue.lock().company.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert!(company().ends_with(&[one.number]) && company().len() <= 2);
    drop(one);
    assert!(company().len() <= 1);
    tokio::time::sleep(COMPANY).await;
    drop(lanes.body().hash(digests(), Vec::new()));
    assert_eq!(company().len(), 0, "the last has left, the other is no company any more");
    drop(two);
}

/// Without vectors every body gets a thread, up to their number; with them, as many bodies share one as there are lanes.
#[test]
fn threads_are_for_what_lanes_cannot_hold() {
    let serial = Lanes::with(Kernel::SERIAL, 4, 1);
    assert_eq!([0, 1, 2, 4, 9].map(|works| serial.0.threads_for(works)), [0, 1, 2, 4, 4]);
    let kernel = Kernel::detect();
    if kernel.lanes() > 1 {
        let wide = Lanes::with(kernel, 4, 1);
        let full = kernel.lanes();
        assert_eq!([1, 2, full, full + 1, 99 * full].map(|works| wide.0.threads_for(works)), [1, 1, 1, 2, 4]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn chunks_of_any_length_in_any_company(bodies in proptest::collection::vec(proptest::collection::vec(0usize..20_000, 0..6), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let lanes = Lanes::with(Kernel::detect(), 2, 1);
            let mut answers = Vec::new();
            for (number, lengths) in bodies.iter().enumerate() {
                let chunks: Vec<Bytes> = lengths.iter().map(|len| vec![number as u8; *len].into()).collect();
                answers.push((lanes.body().hash(digests(), chunks.clone()), chunks.concat()));
            }
            for (answer, body) in answers {
                check(*answer.await.unwrap(), &body);
            }
        });
    }
}
