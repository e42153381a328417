//! Compiled plugins by the hash of their content, in memory and in a directory of the gateway's own.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::artifact;

/// How many compiled plugins stay in memory that may be in use no more.
const RECENT: usize = 8;
/// How many files stay.
const FILES: usize = 64;
/// The largest file.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;
const DIGEST: usize = 32;

/// The compiler with its memory.
#[derive(Debug)]
pub(crate) struct Cache {
    engine: Engine,
    place: Option<PathBuf>,
    /// What the files of other versions and settings of the compiler are not called.
    suffix: String,
    recent: Mutex<VecDeque<([u8; DIGEST], Known)>>,
    /// One is compiled at a time: it takes a processor for itself.
    compiling: Mutex<()>,
}

struct Known(Component);

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Component")
    }
}

/// Where a component came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was known.
    Memory,
    /// It was compiled before.
    File,
    /// It was compiled now.
    Compiler,
}

impl Cache {
    pub(crate) fn new(engine: &Engine, place: Option<PathBuf>) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let suffix = format!("{:016x}.cwasm", hasher.finish());
        Self { engine: engine.clone(), place, suffix, recent: Mutex::default(), compiling: Mutex::default() }
    }

    /// The component of these bytes. Blocks, for seconds where it has to be compiled.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn component(&self, wasm: &[u8], hash: [u8; DIGEST]) -> wasmtime::Result<(Component, Source)> {
        let known = self.recent.lock().iter().find(|(known, _)| *known == hash).map(|(_, component)| component.0.clone());
        if let Some(component) = known {
            return Ok((component, Source::Memory));
        }
        let name = format!("{}-{}", hex::encode(hash), self.suffix);
        let (component, source) = match self.stored(&name) {
            Some(component) => (component, Source::File),
            None => {
                let component = {
                    let _turn = self.compiling.lock();
                    Component::from_binary(&self.engine, wasm)?
                };
                if let Err(error) = self.store(&name, &component) {
                    tracing::warn!(%error, "a compiled plugin is not kept: it will be compiled again after the next start");
                }
                (component, Source::Compiler)
            }
        };
        let mut recent = self.recent.lock();
        recent.push_front((hash, Known(component.clone())));
        recent.truncate(RECENT);
        Ok((component, source))
    }

    fn stored(&self, name: &str) -> Option<Component> {
        let place = self.place.as_deref()?;
        let bytes = match read_trusted(place, name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, place = %place.display(), "a compiled plugin is not used");
                return None;
            }
        };
        let loaded = artifact::load(&self.engine, bytes.get(DIGEST..)?);
        loaded.inspect_err(|error| tracing::warn!(%error, "a compiled plugin cannot be used and is compiled again")).ok()
    }

    fn store(&self, name: &str, component: &Component) -> wasmtime::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        DirBuilder::new().recursive(true).mode(0o700).create(place)?;
        trusted_directory(place)?;
        let code = component.serialize()?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(place)?;
        file.write_all(&Sha256::digest(&code))?;
        file.write_all(&code)?;
        file.as_file().sync_all()?;
        file.persist(place.join(name))?;
        prune(place)?;
        Ok(())
    }
}

/// The directory, if nobody but this user can change what is in it.
fn trusted_directory(place: &Path) -> io::Result<File> {
    let open = rustix::fs::open(place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let directory = File::from(open?);
    only_ours(&directory, "the directory of compiled plugins")?;
    Ok(directory)
}

fn only_ours(file: &File, what: &str) -> io::Result<()> {
    let told = file.metadata()?;
    if told.uid() != rustix::process::geteuid().as_raw() || told.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{what} can be written by others")));
    }
    Ok(())
}

/// A file of the directory, digest and all, if it is what was written there.
fn read_trusted(place: &Path, name: &str) -> io::Result<Vec<u8>> {
    let directory = trusted_directory(place)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
    only_ours(&file, "a compiled plugin")?;
    let told = file.metadata()?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a compiled plugin is damaged");
    if !told.is_file() || told.len() > MAX_FILE_BYTES {
        return Err(damaged());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(told.len()).unwrap_or(0));
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    match bytes.split_at_checked(DIGEST) {
        Some((digest, code)) if Sha256::digest(code).as_slice() == digest => Ok(bytes),
        _ => Err(damaged()),
    }
}

/// Removes the oldest files.
fn prune(place: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in place.read_dir()? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    let over = files.len().saturating_sub(FILES);
    for (_, path) in files.into_iter().take(over) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
