//! The data directory: one gateway process at a time, for its owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// A data directory that this process holds.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    lock: File,
}

/// What the process that holds a data directory says about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// Address of its admin listener.
    pub(super) admin: String,
    /// The file of the certificate that it shows; empty without TLS.
    #[serde(default)]
    pub(super) admin_cert: PathBuf,
}

/// The outcome of trying to hold one.
#[derive(Debug)]
pub(super) enum Hold {
    /// It is ours.
    Ours(DataDir),
    /// Another process has it.
    Theirs(Holder),
    /// There is no such directory.
    Missing,
}

impl DataDir {
    /// Holds the directory, created when `create`. The lock ends with the process, however that ends.
    pub(super) fn hold(path: &Path, create: bool) -> Result<Hold, Failure> {
        let failed = |error| Failure::of(format!("the data directory {}", path.display()))(error);
        if create {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        } else if !path.is_dir() {
            return Ok(Hold::Missing);
        }
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(lock_path(path));
        let mut lock = open.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Hold::Ours(Self { path: path.to_owned(), lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                lock.read_to_string(&mut text).map_err(failed)?;
                Ok(Hold::Theirs(serde_json::from_str(&text).unwrap_or_default()))
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Tells others who holds it.
    pub(super) fn tell(&mut self, holder: &Holder) -> io::Result<()> {
        let text = serde_json::to_string(holder)?;
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the master key.
    pub(super) fn master_key(&self) -> PathBuf {
        self.path.join("master.key")
    }

    /// The file of the admin token.
    pub(super) fn admin_token(&self) -> PathBuf {
        admin_token_path(&self.path)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = self.lock.set_len(0);
    }
}

/// The file of the admin token of a data directory.
pub(super) fn admin_token_path(path: &Path) -> PathBuf {
    path.join("admin.token")
}

fn lock_path(path: &Path) -> PathBuf {
    path.join("sluice.lock")
}
