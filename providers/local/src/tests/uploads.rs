//! Parts land at their place.

use super::*;
use sluice_provider::{Multipart, PartNumber, UploadId};
use std::fs;
use std::os::unix::fs::MetadataExt;

const UNIT: usize = 300_000;

fn part(byte: u8, size: usize) -> (Vec<u8>, PutBody) {
    let content = vec![byte; size];
    let body = body(&content);
    (content, body)
}

struct Upload<'a> {
    mount: &'a Mount,
    id: UploadId,
}

impl<'a> Upload<'a> {
    async fn begin(mount: &'a Mount) -> Self {
        let id = UploadId::new("u1").unwrap();
        mount.local.create(&key("big"), &id).await.unwrap();
        Self { mount, id }
    }

    async fn part(&self, number: i64, byte: u8, size: usize) -> (String, u64) {
        let number = PartNumber::new(number).unwrap();
        let token = self.mount.local.put_part(&key("big"), &self.id, number, part(byte, size).1).await.unwrap();
        (token, size as u64)
    }

    async fn complete(&self, parts: &[(String, u64)], when: PutWhen) -> Result<(), Error> {
        let put = PutOptions { when, ..PutOptions::default() };
        let etag = ETag::new("d41d8cd98f00b204e9800998ecf8427e-3").unwrap();
        self.mount.local.complete(&key("big"), &self.id, parts, &etag, &put).await.map(drop)
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.mount.path(".sluice/uploads/u1/data")).unwrap().ino()
    }
}

fn expected(parts: &[(u8, usize)]) -> Vec<u8> {
    parts.iter().flat_map(|(byte, size)| vec![*byte; *size]).collect()
}

#[tokio::test]
async fn equal_parts_in_any_order_become_the_object_without_a_copy() {
    let mount = mount();
    let upload = Upload::begin(&mount).await;
    let second = upload.part(2, b'2', UNIT).await;
    let third = upload.part(3, b'3', 1000).await;
    let first = upload.part(1, b'1', UNIT).await;
    let inode = upload.inode();
    upload.complete(&[first, second, third], PutWhen::Always).await.unwrap();
    let object = fs::metadata(mount.path("big")).unwrap();
    assert_eq!((object.ino(), object.nlink()), (inode, 1));
    assert!(fs::read(mount.path("big")).unwrap() == expected(&[(b'1', UNIT), (b'2', UNIT), (b'3', 1000)]));
    assert!(mount.hidden("uploads").is_empty());
}

#[tokio::test]
async fn a_part_sent_again_is_copied_to_its_place_and_the_first_is_left_alone() {
    let mount = mount();
    let upload = Upload::begin(&mount).await;
    let first = upload.part(1, b'1', UNIT).await;
    let second = upload.part(2, b'2', UNIT).await;
    let again = upload.part(1, b'x', UNIT).await;
    assert_ne!(first.0, again.0);
    // The condition fails: every part must still be there.
    let refused = upload.complete(&[again.clone(), second.clone()], PutWhen::IfPresent).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound);
    upload.complete(&[first.clone(), second.clone()], PutWhen::IfPresent).await.unwrap_err();
    mount.local.discard_part(&key("big"), &upload.id, &first.0).await.unwrap();
    let inode = upload.inode();
    upload.complete(&[again, second], PutWhen::Always).await.unwrap();
    assert_eq!(fs::metadata(mount.path("big")).unwrap().ino(), inode);
    assert!(fs::read(mount.path("big")).unwrap() == expected(&[(b'x', UNIT), (b'2', UNIT)]));
}

#[tokio::test]
async fn parts_that_do_not_fit_are_assembled() {
    let mount = mount();
    for (sizes, left_out) in [(vec![1000, UNIT, 5], None), (vec![UNIT, 1000, UNIT], None), (vec![UNIT, UNIT, UNIT], Some(2))] {
        let upload = Upload::begin(&mount).await;
        let mut listed = Vec::new();
        let mut content = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let stored = upload.part(n as i64 + 1, b'a' + n as u8, *size).await;
            if left_out != Some(n + 1) {
                listed.push(stored);
                content.push((b'a' + n as u8, *size));
            }
        }
        upload.complete(&listed, PutWhen::Always).await.unwrap();
        assert!(fs::read(mount.path("big")).unwrap() == expected(&content), "{sizes:?}");
    }
}

#[tokio::test]
async fn a_completion_that_was_cut_short_after_publication_can_be_repeated() {
    let mount = mount();
    let upload = Upload::begin(&mount).await;
    let parts = [upload.part(1, b'1', UNIT).await, upload.part(2, b'2', 10).await];
    // The state between publication and the removal of the upload: one inode, two names.
    fs::hard_link(mount.path(".sluice/uploads/u1/data"), mount.path("big")).unwrap();
    let published = upload.inode();
    // A late part must not be written into what is an object now.
    let late = upload.part(3, b'3', UNIT).await;
    assert!(late.0.starts_with("p."), "{late:?}");
    upload.complete(&parts, PutWhen::Always).await.unwrap();
    assert!(fs::read(mount.path("big")).unwrap() == expected(&[(b'1', UNIT), (b'2', 10)]));
    assert_ne!(fs::metadata(mount.path("big")).unwrap().ino(), published);
    assert!(mount.hidden("uploads").is_empty());
}

#[tokio::test]
async fn a_part_that_fails_gives_its_place_back() {
    use futures::StreamExt;
    let mount = mount();
    let upload = Upload::begin(&mount).await;
    let number = PartNumber::new(1).unwrap();
    for end in [None, Some(Err(Error::new(ErrorKind::Body(sluice_provider::BodyFault::Incomplete), "test")))] {
        let chunks = futures::stream::iter([Ok(Bytes::from(vec![9; 1000]))].into_iter().chain(end)).boxed();
        let body = PutBody::new(chunks, Some(UNIT as u64), std::sync::Arc::default());
        mount.local.put_part(&key("big"), &upload.id, number, body).await.unwrap_err();
        let claim = mount.path(".sluice/uploads/u1/c.1");
        while claim.exists() {
            tokio::task::yield_now().await;
        }
    }
    let stored = upload.part(1, b'1', UNIT).await;
    assert!(stored.0.starts_with("c."));
    upload.complete(&[stored], PutWhen::Always).await.unwrap();
    assert!(fs::read(mount.path("big")).unwrap() == expected(&[(b'1', UNIT)]));
}

/// What the gateway does when a part is sent again while somebody completes: the replaced one is discarded under the completion.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_part_discarded_during_the_completion_is_never_a_hole() {
    const SIZE: usize = 128 << 10;
    const TURNS: u32 = 40;
    // In place; and assembled, because a part that is left out has a place too.
    for left_out in [false, true] {
        let (mut whole, mut refused, mut took) = (0, 0, Duration::ZERO);
        for turn in 0..=TURNS {
            let mount = mount();
            let upload = Upload::begin(&mount).await;
            let mut parts = Vec::new();
            for (number, byte) in (1..).zip(b"12345") {
                parts.push(upload.part(number, *byte, SIZE).await);
            }
            if left_out {
                parts.remove(0);
            }
            // A part that is being written keeps the completion from taking the data file for itself alone.
            let writing = fs::File::open(mount.path(".sluice/uploads/u1/lock")).unwrap();
            if left_out {
                rustix::fs::flock(&writing, rustix::fs::FlockOperation::LockShared).unwrap();
            }
            let (local, id, last) = (mount.local.clone(), upload.id.clone(), parts[parts.len() - 1].0.clone());
            // Each turn a little later, the first one long after the completion. Timers are too coarse for that.
            let wait = match turn {
                0 => Duration::from_secs(1),
                TURNS => Duration::ZERO,
                _ => took * turn / TURNS * 2,
            };
            let runtime = tokio::runtime::Handle::current();
            let (ready, begin) = std::sync::mpsc::channel();
            let discarding = tokio::task::spawn_blocking(move || {
                ready.send(()).unwrap();
                let began = std::time::Instant::now();
                while began.elapsed() < wait {
                    std::hint::spin_loop();
                }
                runtime.block_on(local.discard_part(&key("big"), &id, &last)).unwrap();
            });
            begin.recv().unwrap();
            // The last one before it.
            while turn == TURNS && !discarding.is_finished() {
                tokio::task::yield_now().await;
            }
            let began = std::time::Instant::now();
            let completed = upload.complete(&parts, PutWhen::Always).await;
            if turn == 0 {
                took = began.elapsed();
            }
            discarding.await.unwrap();
            match completed {
                Ok(()) => {
                    whole += 1;
                    let content: Vec<_> = b"12345"[usize::from(left_out)..].iter().map(|byte| (*byte, SIZE)).collect();
                    assert!(fs::read(mount.path("big")).unwrap() == expected(&content), "turn {turn}");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(*error.kind(), ErrorKind::NotFound, "{error}");
                    assert!(!mount.path("big").exists());
                }
            }
        }
        assert!(whole > 0 && refused > 0, "{whole} {refused}");
    }
}

#[tokio::test]
async fn a_part_whose_place_would_lie_beyond_any_file_is_a_file_of_its_own() {
    let mount = mount();
    let upload = Upload::begin(&mount).await;
    // As if the first part had been of 5 GiB.
    fs::write(mount.path(".sluice/uploads/u1/unit"), (5u64 << 30).to_string()).unwrap();
    let parts = [upload.part(2, b'2', UNIT).await, upload.part(10_000, b'x', UNIT).await];
    assert!(parts[0].0.starts_with("c.") && parts[1].0.starts_with("p."), "{parts:?}");
    upload.complete(&parts, PutWhen::Always).await.unwrap();
    assert!(fs::read(mount.path("big")).unwrap() == expected(&[(b'2', UNIT), (b'x', UNIT)]));
}
