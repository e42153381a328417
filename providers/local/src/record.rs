//! Records: attributes that do not fit into the inode, or on a file system that has no place for them there.
//!
//! With extended attributes a record has a random name, which the object's attribute holds. Without, it is named by the inode of
//! the object it belongs to; that inode exists before the object does, so the record does too. A record is written whole,
//! flushed, and never changed; a new state is a new record renamed over the name or named by the new attribute.

use std::os::fd::AsFd;
use std::sync::Arc;

use md5::{Digest, Md5};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::error::{Sys, fault};
use crate::flush::Flush;
use crate::meta::{Meta, RecordId};
use crate::space::{Space, subdirectory};

/// The most that is stored beside one object, in bytes.
const MAX_BYTES: usize = 1 << 20;
const MAGIC: &[u8; 4] = b"slr1";

/// The name of a record that an attribute names.
pub(crate) fn named(id: &RecordId) -> String {
    format!("r{}", hex::encode(id))
}

/// The name of the record of an inode.
pub(crate) fn of_inode(inode: u64) -> String {
    format!("i{inode:032x}")
}

/// The directory of a record: the last two digits of its name, which differ most.
fn shard(name: &str) -> &str {
    name.get(name.len().saturating_sub(2)..).unwrap_or("00")
}

/// Writes a record and makes it durable.
pub(crate) fn write(space: &Arc<Space>, flush: &Flush, name: &str, key: &str, meta: &Meta) -> Result<()> {
    let failed = |e| fault("write record", e);
    let meta = meta.encode();
    if meta.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, "attributes").with("bytes", meta.len()));
    }
    let mut bytes = Vec::with_capacity(meta.len() + key.len() + 24);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(u16::try_from(key.len()).unwrap_or(u16::MAX)).to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&meta);
    let sum = Md5::digest(&bytes);
    bytes.extend_from_slice(&sum);

    let mut staged = space.stage().map_err(failed)?;
    let stored = (|| {
        crate::write::write_all(staged.fd(), &[&bytes], 0)?;
        flush.file(staged.fd())?;
        let dir = subdirectory(space.records.as_fd(), shard(name))?;
        renameat(staged.dir(), staged.name(), &dir, name)?;
        staged.published();
        flush.directory(dir.as_fd())?;
        // Its directory may be new too.
        flush.directory(space.records.as_fd())
    })();
    if stored.is_err() {
        staged.discard();
    }
    stored.map_err(failed)
}

/// Reads a record: its key and what it says. `None` when there is none, or it is torn.
pub(crate) fn read(space: &Space, name: &str) -> Sys<Option<(String, Meta)>> {
    let path = format!("{}/{name}", shard(name));
    let file = match openat(&space.records, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let size = usize::try_from(fstat(&file)?.st_size).unwrap_or(usize::MAX);
    if size > MAX_BYTES + 2048 {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let read = crate::read::read_exact(file.as_fd(), &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<(String, Meta)> {
    let (bytes, sum) = bytes.split_last_chunk::<16>()?;
    if Md5::digest(bytes).as_slice() != sum {
        return None;
    }
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (key, meta) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((String::from_utf8(key.to_vec()).ok()?, Meta::decode(meta)?))
}

/// Removes a record. One that stays is swept later.
pub(crate) fn remove(space: &Space, name: &str) {
    if let Err(errno) = unlinkat(&space.records, format!("{}/{name}", shard(name)), AtFlags::empty())
        && errno != Errno::NOENT
    {
        tracing::warn!(%errno, name, "a record could not be removed");
    }
}
