//! The ways of a read.

use super::*;
use sluice_provider::RangeSpec;

#[tokio::test]
async fn what_memory_holds_is_read_without_a_hop() {
    let mount = mount();
    mount.put("a/f", "hello").await;
    mount.put("a/large", &"x".repeat(100_000)).await;
    // Warms the names; the content is warm from writing.
    for name in ["a/f", "a/large"] {
        mount.local.get(&key(name), &ReadOptions::default()).await.unwrap();
    }
    if mount.local.0.tree.open_cached(mount.local.0.root(), b"a/f", rustix::fs::OFlags::RDONLY).is_err() {
        eprintln!("SKIPPED: what_memory_holds_is_read_without_a_hop needs openat2 with RESOLVE_CACHED");
        return;
    }
    mount.local.0.reads.close();
    assert_eq!(mount.get("a/f").await.unwrap(), "hello");
    assert_eq!(mount.local.head(&key("a/f"), &ReadOptions::default()).await.unwrap().size, 5);
    let object = mount.local.get(&key("a/large"), &ReadOptions::default()).await.unwrap();
    assert!(matches!(object.body, Body::File { range, .. } if range == (0..100_000)));
    let read = ReadOptions { range: Some(RangeSpec::Last(3)), ..ReadOptions::default() };
    let object = mount.local.get(&key("a/large"), &read).await.unwrap();
    assert!(matches!(object.body, Body::Bytes(bytes) if bytes == "xxx"));
}

#[tokio::test]
async fn a_file_that_is_being_read_outlives_its_object() {
    use std::os::unix::fs::FileExt;
    let mount = mount();
    let old = "o".repeat(100_000);
    mount.put("f", &old).await;
    let object = mount.local.get(&key("f"), &ReadOptions::default()).await.unwrap();
    mount.put("f", &"n".repeat(100_000)).await;
    mount.delete("f").await.unwrap();
    let Body::File { file, range } = object.body else { panic!("a large object is an open file") };
    let mut content = vec![0; 100_000];
    file.read_exact_at(&mut content, range.start).unwrap();
    assert!(content == old.as_bytes());
}
