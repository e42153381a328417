#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use md5::{Digest as _, Md5};

use super::*;
use crate::transfer::md5_hex;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn stream(chunks: Vec<Bytes>) -> ByteStream {
    futures::stream::iter(chunks.into_iter().map(Ok)).boxed()
}

/// Everything that comes out, the seal if it closed, and how it ended.
async fn drain(mut body: PutBody) -> (Vec<u8>, Result<Seal>) {
    let mut out = Vec::new();
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty());
                out.extend_from_slice(&chunk);
            }
            Ok(None) => return (out, body.seal()),
            Err(e) => {
                assert!(body.seal().is_err(), "a failed body has no seal");
                assert!(body.chunk().await.unwrap().is_none(), "nothing comes after an error");
                return (out, Err(e));
            }
        }
    }
}

fn trailer(value: Option<String>) -> TrailerSource {
    Box::new(move |_| value)
}

fn kind(outcome: &Result<Seal>) -> ErrorKind {
    *outcome.as_ref().unwrap_err().kind()
}

/// A body in random chunks, empty ones among them.
fn bodies() -> impl Strategy<Value = (Vec<u8>, Vec<Bytes>)> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..8)
        .prop_map(|chunks| (chunks.concat(), chunks.into_iter().map(Bytes::from).collect()))
}

/// Everything true that can be declared about a body.
fn truth(body: &[u8], algorithm: Algorithm) -> Declared {
    Declared {
        size: Some(body.len() as u64),
        max_size: Some(body.len() as u64),
        md5: Some(Md5::digest(body).into()),
        checksums: Algorithm::ALL.map(|a| (a, Hasher::once(a, body))).to_vec(),
        trailer: Some((algorithm, trailer(Some(encode(&Hasher::once(algorithm, body)))))),
        ..Declared::default()
    }
}

/// Makes one declaration false; answers the fault that must follow.
fn falsify(declared: &mut Declared, what: usize, which: usize, body: &[u8]) -> BodyFault {
    let algorithm = Algorithm::ALL[which];
    let wrong = encode(&Hasher::once(algorithm, b"something else, surely"));
    let size = body.len() as u64;
    match what {
        0 => {
            (declared.size, declared.max_size) = (Some(size + 1 + which as u64), None);
            BodyFault::Incomplete
        }
        1 => {
            declared.size = Some(size.saturating_sub(1 + which as u64));
            BodyFault::TooLong
        }
        2 => {
            declared.max_size = Some(size.saturating_sub(1 + which as u64));
            BodyFault::TooLarge
        }
        3 => {
            declared.md5 = Some([which as u8; 16]);
            BodyFault::Md5Mismatch
        }
        4 => {
            declared.checksums[which].1[0] ^= 1;
            BodyFault::ChecksumMismatch(algorithm.name())
        }
        5 => {
            declared.trailer = Some((algorithm, trailer(Some(wrong))));
            BodyFault::ChecksumMismatch(algorithm.name())
        }
        6 => {
            declared.trailer = Some((algorithm, trailer(None)));
            BodyFault::Trailer
        }
        _ => {
            declared.trailer = Some((algorithm, trailer(Some(wrong[1..].to_owned()))));
            BodyFault::Trailer
        }
    }
}

proptest! {
    #[test]
    fn a_true_body_comes_out_as_it_went_in((body, chunks) in bodies(), algorithm in proptest::sample::select(&Algorithm::ALL[..])) {
        let verified = verify(stream(chunks), truth(&body, algorithm));
        prop_assert_eq!(verified.size(), Some(body.len() as u64));
        let (out, seal) = runtime().block_on(drain(verified));
        let seal = seal.unwrap();
        prop_assert_eq!(&out, &body);
        prop_assert_eq!(seal.etag.as_str(), md5_hex(&body));
        for a in Algorithm::ALL {
            prop_assert_eq!(seal.attributes.get(a.attribute()).unwrap(), encode(&Hasher::once(a, &body)));
        }
    }

    #[test]
    fn a_false_body_never_comes_out_whole((body, chunks) in bodies(), what in 0usize..8, which in 0usize..5) {
        prop_assume!(!body.is_empty());
        let mut declared = truth(&body, Algorithm::ALL[which]);
        let fault = falsify(&mut declared, what, which, &body);
        let (out, end) = runtime().block_on(drain(verify(stream(chunks), declared)));
        prop_assert_eq!(kind(&end), ErrorKind::Body(fault));
        prop_assert!(out.len() < body.len());
        prop_assert!(body.starts_with(&out));
    }

    #[test]
    fn the_streams_own_error_passes_unchanged((body, chunks) in bodies(), at in any::<prop::sample::Index>()) {
        let at = at.index(chunks.len() + 1);
        let mut items: Vec<Result<Bytes>> = chunks.into_iter().map(Ok).collect();
        items.insert(at, Err(Error::new(ErrorKind::Body(BodyFault::Signature), "chunk").with("number", 7)));
        let verified = verify(futures::stream::iter(items).boxed(), truth(&body, Algorithm::Crc32));
        let (out, end) = runtime().block_on(drain(verified));
        prop_assert_eq!(end.unwrap_err().to_string(), "chunk: Body(Signature), number 7");
        prop_assert!(out.is_empty() || out.len() < body.len());
    }
}

#[test]
fn nothing_but_the_etag_when_nothing_was_asked() {
    let (out, seal) = runtime().block_on(drain(verify(stream(vec![Bytes::from_static(b"ab")]), Declared::default())));
    let seal = seal.unwrap();
    assert_eq!(out, b"ab");
    assert_eq!(seal.etag.as_str(), md5_hex(b"ab"));
    assert!(seal.attributes.is_empty());
}

#[test]
fn what_is_to_be_computed_is_stored() {
    let declared = Declared { compute: vec![Algorithm::Crc64Nvme, Algorithm::Crc64Nvme], ..Declared::default() };
    let seal = runtime().block_on(drain(verify(stream(vec![Bytes::from_static(b"123456789")]), declared))).1.unwrap();
    assert_eq!(seal.attributes.iter().collect::<Vec<_>>(), [("checksum.crc64nvme", "rosUhgp5mIg=")]);
}

#[test]
fn an_empty_body_is_checked_too() {
    let (out, seal) = runtime().block_on(drain(verify(stream(vec![]), truth(b"", Algorithm::Sha1))));
    assert!(out.is_empty() && seal.is_ok());
    for (what, fault) in [(0, BodyFault::Incomplete), (3, BodyFault::Md5Mismatch), (6, BodyFault::Trailer)] {
        let mut declared = truth(b"", Algorithm::Sha1);
        assert_eq!(falsify(&mut declared, what, 3, b""), fault);
        assert_eq!(kind(&runtime().block_on(drain(verify(stream(vec![]), declared))).1), ErrorKind::Body(fault));
    }
}

#[test]
fn a_size_over_the_limit_is_refused_before_a_byte_is_read() {
    let read = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&read);
    let source = futures::stream::poll_fn(move |_| {
        seen.store(true, Ordering::Relaxed);
        std::task::Poll::Ready(None)
    });
    let declared = Declared { size: Some(11), max_size: Some(10), ..Declared::default() };
    let end = runtime().block_on(drain(verify(source.boxed(), declared))).1;
    assert_eq!(kind(&end), ErrorKind::Body(BodyFault::TooLarge));
    assert!(!read.load(Ordering::Relaxed));
}

#[test]
fn the_trailer_is_read_only_after_the_end() {
    let ended = Arc::new(AtomicBool::new(false));
    let (at_end, at_trailer) = (Arc::clone(&ended), Arc::clone(&ended));
    let mut left = 3;
    let source = futures::stream::poll_fn(move |_| {
        left -= 1;
        at_end.store(left == 0, Ordering::Relaxed);
        std::task::Poll::Ready((left > 0).then(|| Ok(Bytes::from_static(b"x"))))
    });
    let read: TrailerSource = Box::new(move |a| at_trailer.load(Ordering::Relaxed).then(|| encode(&Hasher::once(a, b"xx"))));
    let declared = Declared { trailer: Some((Algorithm::Crc32c, read)), ..Declared::default() };
    assert!(runtime().block_on(drain(verify(source.boxed(), declared))).1.is_ok());
}

#[test]
fn a_verified_sha256_is_taken_as_it_is() {
    // A value that is not the body's proves that nothing was hashed; in earnest the stream vouches for it.
    let declared = Declared { verified_sha256: Some([7; 32]), compute: vec![Algorithm::Sha256], ..Declared::default() };
    let seal = runtime().block_on(drain(verify(stream(vec![Bytes::from_static(b"a")]), declared))).1.unwrap();
    assert_eq!(seal.attributes.get("checksum.sha256"), Some(&*encode(&[7; 32])));

    let checksums = vec![(Algorithm::Sha256, vec![8; 32])];
    let declared = Declared { verified_sha256: Some([7; 32]), checksums, ..Declared::default() };
    let end = runtime().block_on(drain(verify(stream(vec![Bytes::from_static(b"a")]), declared))).1;
    assert_eq!(kind(&end), ErrorKind::Body(BodyFault::ChecksumMismatch("SHA256")));
}

#[test]
fn chunks_are_handed_on_without_a_copy() {
    let chunks: Vec<Bytes> = (0..4u8).map(|n| Bytes::from(vec![n; 1000])).collect();
    let want: Vec<*const u8> = chunks.iter().map(|c| c.as_ptr()).collect();
    let got = runtime().block_on(async {
        let mut body = verify(stream(chunks), Declared::default());
        let mut got = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            got.push(chunk.as_ptr());
        }
        got
    });
    assert_eq!(got, want);
}

#[test]
fn others_get_their_turn_while_a_large_chunk_is_hashed() {
    runtime().block_on(async {
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let big = Bytes::from(vec![1; 16 * BURST_BYTES]);
        assert_eq!(drain(verify(stream(vec![big.clone()]), Declared::default())).await.0.len(), big.len());
        other.abort();
        assert!(turns.load(Ordering::Relaxed) >= 15, "{turns:?} turns");
    });
}

// === the same with lanes ===

/// Pieces so small that the bodies of these tests are made of many, or so large that all bodies are small.
fn lanes_of(piece_bytes: usize) -> Option<Lanes> {
    Some(Lanes::with(sluice_md5_lanes::Kernel::detect(), 2, piece_bytes))
}

fn lanes() -> Option<Lanes> {
    lanes_of(1000)
}

/// Runs with company: another small body that is on its way all the time.
fn in_company<T>(lanes: &Option<Lanes>, run: impl Future<Output = T>) -> T {
    let _other = lanes.as_ref().and_then(|lanes| lanes.small(2000));
    runtime().block_on(run)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_true_body_in_pieces_comes_out_as_it_went_in((body, chunks) in bodies(), size in any::<bool>(), which in 0usize..5) {
        let mut declared = Declared { lanes: lanes(), ..truth(&body, Algorithm::ALL[which]) };
        declared.size = declared.size.filter(|_| size);
        let (out, seal) = runtime().block_on(drain(verify(stream(chunks), declared)));
        let seal = seal.unwrap();
        prop_assert_eq!(&out, &body);
        prop_assert_eq!(seal.etag.as_str(), md5_hex(&body));
        for a in Algorithm::ALL {
            prop_assert_eq!(seal.attributes.get(a.attribute()).unwrap(), encode(&Hasher::once(a, &body)));
        }
    }

    #[test]
    fn a_false_body_in_pieces_never_comes_out_whole((body, chunks) in bodies(), what in 0usize..8, which in 0usize..5) {
        prop_assume!(!body.is_empty());
        let mut declared = Declared { lanes: lanes(), ..truth(&body, Algorithm::ALL[which]) };
        let fault = falsify(&mut declared, what, which, &body);
        let (out, end) = runtime().block_on(drain(verify(stream(chunks), declared)));
        prop_assert_eq!(kind(&end), ErrorKind::Body(fault));
        prop_assert!(out.len() < body.len());
        prop_assert!(body.starts_with(&out));
    }

    #[test]
    fn the_streams_own_error_passes_unchanged_between_pieces((body, chunks) in bodies(), at in any::<prop::sample::Index>()) {
        let at = at.index(chunks.len() + 1);
        let mut items: Vec<Result<Bytes>> = chunks.into_iter().map(Ok).collect();
        items.insert(at, Err(Error::new(ErrorKind::Body(BodyFault::Signature), "chunk").with("number", 7)));
        let declared = Declared { lanes: lanes(), ..truth(&body, Algorithm::Crc32) };
        let (out, end) = runtime().block_on(drain(verify(futures::stream::iter(items).boxed(), declared)));
        prop_assert_eq!(end.unwrap_err().to_string(), "chunk: Body(Signature), number 7");
        prop_assert!(out.is_empty() || out.len() < body.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn true_small_bodies_come_out_as_they_went_in(all in proptest::collection::vec(bodies(), 1..40), which in 0usize..5) {
        let lanes = lanes_of(1 << 20);
        let outs = in_company(&lanes, async {
            let verified = all.iter().map(|(body, chunks)| {
                let declared = Declared { lanes: lanes.clone(), ..truth(body, Algorithm::ALL[which]) };
                drain(verify(stream(chunks.clone()), declared))
            });
            futures::future::join_all(verified).await
        });
        for ((body, _), (out, seal)) in all.iter().zip(outs) {
            prop_assert_eq!(&out, body);
            prop_assert_eq!(seal.unwrap().etag.to_string(), md5_hex(body));
        }
    }

    #[test]
    fn a_false_small_body_never_comes_out_whole((body, chunks) in bodies(), what in 0usize..8, which in 0usize..5) {
        prop_assume!(!body.is_empty());
        let lanes = lanes_of(1 << 20);
        let mut declared = Declared { lanes: lanes.clone(), ..truth(&body, Algorithm::ALL[which]) };
        let fault = falsify(&mut declared, what, which, &body);
        let (out, end) = in_company(&lanes, drain(verify(stream(chunks), declared)));
        prop_assert_eq!(kind(&end), ErrorKind::Body(fault));
        prop_assert!(out.len() < body.len());
    }
}

/// The one that was to hash for all goes away in between: the others are served all the same.
#[tokio::test]
async fn a_batch_survives_its_leader() {
    let lanes = lanes_of(1 << 20).unwrap();
    let body = Bytes::from(vec![9; 3000]);
    let one = |lanes: &Lanes| {
        let declared = Declared { size: Some(3000), lanes: Some(lanes.clone()), ..Declared::default() };
        Box::pin(drain(verify(stream(vec![body.clone()]), declared)))
    };
    let (mut leader, mut other) = (one(&lanes), one(&lanes));
    assert!(futures::poll!(leader.as_mut()).is_pending());
    assert!(futures::poll!(other.as_mut()).is_pending());
    drop(leader);
    let (out, seal) = other.await;
    assert_eq!((out.len(), seal.unwrap().etag.as_str()), (3000, md5_hex(&body).as_str()));
}

/// A body that nobody takes is not gathered without end.
#[tokio::test]
async fn a_body_has_two_pieces_in_memory_at_most() {
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let chunks = futures::stream::iter((0..100).map(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from_static(&[1; 500]))
    }));
    let mut body = verify(chunks.boxed(), Declared { lanes: lanes(), ..Declared::default() });
    let first = body.chunk().await.unwrap().unwrap();
    // Two chunks make a piece: one is with the taker, one waits for it, two more may be gathered.
    assert_eq!(first.len(), 500);
    assert!(taken.load(Ordering::SeqCst) <= 4, "{}", taken.load(Ordering::SeqCst));
}
