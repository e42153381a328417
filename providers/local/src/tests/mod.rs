//! Tests of the whole provider: what it does to files, and what others do to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod appending;
mod foreign;
mod healing;
mod in_place;
mod listing;
mod places;
mod reading;
mod snapshots;
mod space;
mod spares;
mod together;
mod uploads;
mod versions;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use md5::{Digest, Md5};
use sluice_provider::{
    Attributes, Body, DeleteOutcome, ETag, Error, ErrorKind, Key, ListEntry, ListFrom, ListQuery, Provider, PutBody, PutOptions,
    PutWhen, ReadOptions, Seal,
};

use crate::{Durability, Local, Settings};

struct Mount {
    dir: tempfile::TempDir,
    local: Local,
}

fn settings(root: &Path) -> Settings {
    Settings { durability: Durability::Os, ..Settings::new(root) }
}

fn mount() -> Mount {
    mount_with(|_| {})
}

fn mount_with(change: impl FnOnce(&mut Settings)) -> Mount {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir.path().join("root"));
    change(&mut settings);
    Mount { local: Local::open(settings).unwrap(), dir }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn md5(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}

fn body(content: &[u8]) -> PutBody {
    let seal = Seal { etag: ETag::new(md5(content)).unwrap(), attributes: Attributes::new() };
    PutBody::from_bytes(Bytes::copy_from_slice(content), seal)
}

impl Mount {
    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    async fn put(&self, name: &str, content: &str) {
        self.local.put(&key(name), body(content.as_bytes()), &PutOptions::default()).await.unwrap();
    }

    async fn put_with(&self, name: &str, content: &str, attributes: &[(&str, &str)]) {
        let put = PutOptions { when: PutWhen::Always, attributes: attributes.iter().copied().collect() };
        self.local.put(&key(name), body(content.as_bytes()), &put).await.unwrap();
    }

    async fn get(&self, name: &str) -> Result<String, ErrorKind> {
        let object = self.local.get(&key(name), &ReadOptions::default()).await.map_err(|e| *e.kind())?;
        let Body::Bytes(bytes) = object.body else { panic!("small objects are read at once") };
        if !object.info.etag.as_str().contains('-') {
            assert_eq!(object.info.etag.as_str(), md5(&bytes));
        }
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn attributes(&self, name: &str) -> Attributes {
        self.local.head(&key(name), &ReadOptions::default()).await.unwrap().attributes
    }

    async fn delete(&self, name: &str) -> Result<DeleteOutcome, Error> {
        self.local.delete(&[key(name).into()]).await.pop().unwrap()
    }

    async fn names(&self, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        names(&self.local, prefix, delimiter, 1000).await
    }

    /// Every file below a directory of the hidden space, lock files left out.
    fn hidden(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files(&self.path(".sluice").join(name), &mut found);
        found.retain(|path| !path.as_os_str().as_bytes().ends_with(b"lock"));
        found
    }

    /// Waits until a directory of the hidden space holds no file.
    async fn emptied(&self, name: &str) {
        let until = SystemTime::now() + Duration::from_secs(10);
        while !self.hidden(name).is_empty() {
            assert!(SystemTime::now() < until, "{:?}", self.hidden(name));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// All entries, page by page.
async fn names(local: &Local, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
    let mut query = ListQuery { prefix: prefix.into(), delimiter: delimiter.map(Into::into), from: ListFrom::Start, limit };
    let mut names = Vec::new();
    loop {
        let page = local.list(&query).await.unwrap();
        assert!(page.entries.len() <= limit);
        query.from = match page.entries.last() {
            Some(ListEntry::Object(info)) => ListFrom::After(info.key.as_str().into()),
            Some(ListEntry::Prefix(prefix)) => ListFrom::AfterPrefix(prefix.clone()),
            None => ListFrom::Start,
        };
        names.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
        if !page.more {
            return names;
        }
    }
}

/// Makes a file look as if it had been written long enough ago to be settled.
fn age(path: &Path) {
    set_modified(path, SystemTime::now() - Duration::from_secs(10));
}

fn set_modified(path: &Path, time: SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
