//! Whoever has a published file open reads its bytes to the end: the gateway sends files from the page cache without a copy, so a
//! file that was changed in place would change under its readers.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use sluice_provider::{CopyOptions, Multipart as _, PartNumber, UploadId};

use super::*;

/// An open published file with what it must go on to hold.
struct Held {
    file: File,
    content: Vec<u8>,
    inode: u64,
}

fn hold(path: &Path) -> Held {
    let file = File::open(path).unwrap();
    let found = file.metadata().unwrap();
    let mut content = vec![0; found.len() as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    Held { file, content, inode: found.ino() }
}

impl Held {
    fn check(&self) {
        let found = self.file.metadata().unwrap();
        assert_eq!(found.len(), self.content.len() as u64, "cut or grown in place");
        let mut now = vec![0; self.content.len()];
        self.file.read_exact_at(&mut now, 0).unwrap();
        assert!(now == self.content, "written in place");
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[tokio::test]
async fn no_operation_writes_into_a_published_file() {
    let m = mount();
    let (old, new) = ("a".repeat(300_000), "b".repeat(200_000));
    m.put("k", &old).await;
    m.put("other", &new).await;

    let held = hold(&m.path("k"));
    m.put("k", &new).await;
    held.check();
    assert_ne!(inode(&m.path("k")), held.inode);

    let held = hold(&m.path("k"));
    m.put_with("k", &new, &[("user.a", "b")]).await;
    held.check();
    assert_ne!(inode(&m.path("k")), held.inode, "not even for the same bytes");

    for source in ["other", "k"] {
        let held = hold(&m.path("k"));
        let _ = m.local.copy(&key(source), &key("k"), &CopyOptions::default()).await;
        held.check();
    }

    let held = hold(&m.path("k"));
    m.delete("k").await.unwrap();
    m.put("k", &old).await;
    held.check();
}

#[tokio::test]
async fn a_part_that_is_late_does_not_get_into_the_object() {
    let m = mount();
    let (target, id) = (key("big"), UploadId::new("u1").unwrap());
    m.local.create(&target, &id).await.unwrap();
    let unit = 300_000;
    let content = vec![b'1'; unit];
    let token = m.local.put_part(&target, &id, PartNumber::new(1).unwrap(), body(&content)).await.unwrap();

    // The same part again, and the next one: both have begun when the upload is completed, and end afterwards.
    let late = |number: i64| {
        let (tell, told) = futures::channel::mpsc::unbounded();
        let seal = Seal { etag: ETag::new(md5(&vec![b'2'; unit])).unwrap(), attributes: Attributes::new() };
        let body = PutBody::new(told.boxed(), Some(unit as u64), Arc::new(OnceLock::from(seal)));
        let (local, target, id) = (m.local.clone(), target.clone(), id.clone());
        let part = tokio::spawn(async move { local.put_part(&target, &id, PartNumber::new(number).unwrap(), body).await });
        (tell, part)
    };
    let parts = [late(1), late(2)];
    let half = Bytes::from(vec![b'2'; unit / 2]);
    for (tell, _) in &parts {
        tell.unbounded_send(Ok(half.clone())).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let etag = ETag::new("d41d8cd98f00b204e9800998ecf8427e-1").unwrap();
    m.local.complete(&target, &id, &[(token, unit as u64)], &etag, &PutOptions::default()).await.unwrap();
    let held = hold(&m.path("big"));
    assert!(held.content == content);
    for (tell, part) in parts {
        let _ = tell.unbounded_send(Ok(half.clone()));
        drop(tell);
        let _ = part.await.unwrap();
    }
    held.check();
    assert!(std::fs::read(m.path("big")).unwrap() == content);
}
