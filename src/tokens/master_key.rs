//! The master keys: 32 bytes each, in a file of their own, in a value of the environment, or printed by a command.
//!
//! The file holds 64 hexadecimal digits (`openssl rand -hex 32` makes them) in each line: the key of the first line seals, the others only open. It is created whole: written under another name, flushed, and then
//! given its name, which fails if the name is taken, so that of two processes that start together both use one key, and a crash leaves
//! no half a key behind.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::{Zeroize, Zeroizing};

use super::keyring::MasterKeys;
use super::secret::fill_random;
use crate::error::{Error, ErrorKind, Result};

/// A file that is larger holds something else.
const MAX_FILE_BYTES: u64 = 4096;

/// How long the command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Base64 with or without padding, either alphabet.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&alphabet::STANDARD, LENIENT), GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT)];

/// Reads the master keys from a file, which is created with a new key (mode 0600, its directory 0700) if there is none. Blocks: for start-up.
///
/// # Errors
/// `InvalidArgument` when the group or others may read the file, or when it holds no key; `Internal` when it cannot be read or created.
pub fn master_keys(path: &Path) -> Result<MasterKeys> {
    match read(path) {
        Err(Failure::Missing) => {}
        Err(Failure::Other(error)) => return Err(error.with("path", path.display())),
        Ok(key) => return Ok(key),
    }
    create(path).map_err(|error| error.with("path", path.display()))?;
    match read(path) {
        Ok(key) => Ok(key),
        Err(Failure::Missing) => Err(io_failure(io::ErrorKind::NotFound.into()).with("path", path.display())),
        Err(Failure::Other(error)) => Err(error.with("path", path.display())),
    }
}

/// Takes master keys from text, one or several between spaces, commas or line ends.
///
/// # Errors
/// `InvalidArgument` when there is none, or one that is no key. The error does not hold the text.
pub fn parse_master_keys(text: &str) -> Result<MasterKeys> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let keys: Vec<_> = words.map(|word| parse_master_key(word).map(Zeroizing::new)).collect::<Result<_>>()?;
    if keys.is_empty() { parse_master_key("").map(MasterKeys::from) } else { Ok(MasterKeys(keys)) }
}

/// Reads the master keys from what a program prints. Blocks, for half a minute at most.
///
/// # Errors
/// `InvalidArgument` when it cannot be run, fails, takes too long or prints no keys. The error does not hold what it printed.
pub fn master_keys_of_command(command: &[String]) -> Result<MasterKeys> {
    let refused = |message: String| {
        let program = command.first().map_or("", String::as_str);
        Error::new(ErrorKind::InvalidArgument(message.into()), "run master key command").with("program", program)
    };
    let (program, arguments) = command.split_first().ok_or_else(|| refused("there is no command".to_owned()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| refused(format!("the master key command cannot be run: {error}")))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < COMMAND_LIMIT => std::thread::sleep(Duration::from_millis(10)),
            waited => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(refused(match waited {
                    Err(error) => format!("the master key command cannot be waited for: {error}"),
                    _ => format!("the master key command took longer than {COMMAND_LIMIT:?}"),
                }));
            }
        }
    };
    if !status.success() {
        return Err(refused(format!("the master key command failed: {status}")));
    }
    let mut text = Zeroizing::new(String::new());
    if let Some(out) = child.stdout.take() {
        out.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|_| refused("it printed no text".to_owned()))?;
    }
    parse_master_keys(&text)
}

/// Takes a master key from text: 64 hexadecimal digits, or base64 of 32 bytes. Space around it is ignored.
///
/// # Errors
/// `InvalidArgument` when it is neither. The error does not hold the text.
fn parse_master_key(text: &str) -> Result<[u8; 32]> {
    let text = text.trim();
    let mut key = Zeroizing::new([0; 32]);
    if hex::decode_to_slice(text, &mut *key).is_ok() {
        return Ok(*key);
    }
    for engine in &BASE64 {
        if let Ok(bytes) = engine.decode(text).map(Zeroizing::new)
            && let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice())
        {
            return Ok(key);
        }
    }
    let message = "a master key is 32 bytes as 64 hexadecimal digits or in base64; `openssl rand -hex 32` makes one";
    Err(Error::new(ErrorKind::InvalidArgument(message.into()), "read master key"))
}

enum Failure {
    Missing,
    Other(Error),
}

fn read(path: &Path) -> Result<MasterKeys, Failure> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        opened => opened.map_err(|error| Failure::Other(io_failure(error)))?,
    };
    read_open(file).map_err(Failure::Other)
}

fn read_open(file: File) -> Result<MasterKeys> {
    // Asked of the open file, which cannot be exchanged any more.
    let metadata = file.metadata().map_err(io_failure)?;
    let refused = |message: String| Err(Error::new(ErrorKind::InvalidArgument(message.into()), "read master key"));
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        return refused("the master key file is not a regular file".to_owned());
    }
    if mode & 0o077 != 0 {
        return refused(format!("the master key file is open to group or others (mode {mode:04o}): run `chmod 600` on it"));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_FILE_BYTES).unwrap_or_default()));
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io_failure)?;
    parse_master_keys(&text)
}

/// Creates the file with a new key, unless there is one by now.
fn create(path: &Path) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_failure)?;

    let mut key = Zeroizing::new([0; 32]);
    fill_random(&mut *key)?;
    let mut text = hex::encode(*key);
    text.push('\n');
    let mut suffix = [0; 8];
    fill_random(&mut suffix)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", hex::encode(suffix)));
    let draft = Path::new(&draft);

    let published = write_new(draft, &text).and_then(|()| match std::fs::hard_link(draft, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without hard links.
        Err(_) => match write_new(path, &text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            written => written,
        },
    });
    text.zeroize();
    let removed = std::fs::remove_file(draft);
    published.and(removed).and_then(|()| File::open(directory)?.sync_all()).map_err(io_failure)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn io_failure(error: io::Error) -> Error {
    Error::new(ErrorKind::Internal, "read or create master key").caused_by(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn master_key(path: &Path) -> Result<[u8; 32]> {
        master_keys(path).map(|keys| {
            assert_eq!(keys.0.len(), 1);
            *keys.0[0]
        })
    }

    #[test]
    fn several_keys_in_a_file_or_from_a_command() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let text = format!("{}\n{}\n", "ab".repeat(32), "cd".repeat(32));
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let command = ["cat".to_owned(), path.to_str().unwrap().to_owned()];
        let of_variable = parse_master_keys(&format!("{},{}", "ab".repeat(32), "cd".repeat(32))).unwrap();
        for keys in [master_keys(&path).unwrap(), master_keys_of_command(&command).unwrap(), of_variable] {
            assert_eq!(keys.0.iter().map(|key| key[0]).collect::<Vec<_>>(), [0xab, 0xcd]);
        }
        for command in [&["false"][..], &["/none"], &["echo", "hunter2"], &["true"], &[]] {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            let error = master_keys_of_command(&command).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)) && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_key_is_created_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/master.key");
        let key = master_key(&path).unwrap();
        assert_eq!(master_key(&path).unwrap(), key);
        assert_ne!(key, [0; 32]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", hex::encode(key)));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        assert_ne!(master_key(&directory.path().join("other")).unwrap(), key);
    }

    #[test]
    fn all_who_start_together_use_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| master_key(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        master_key(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = master_key(&path).unwrap_err().to_string();
            assert!(
                error.contains("chmod 600") && error.contains(&format!("{mode:04o}")) && error.contains("master.key"),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        master_key(&path).unwrap();
    }

    #[test]
    fn a_file_without_a_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        for text in ["", "secret stuff", &"ab".repeat(33), &"a".repeat(5000)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = master_key(&path).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{error}");
            assert!(!error.to_string().contains("secret stuff"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let error = master_key(directory.path()).unwrap_err();
        assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn hex_and_base64() {
        let key: [u8; 32] = std::array::from_fn(|n| 255 - u8::try_from(n).unwrap());
        let hex = hex::encode(key);
        let base64 = base64::engine::general_purpose::STANDARD.encode(key);
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
        assert!(base64.contains('/') && url_safe.contains('_'), "both alphabets are tried");
        for text in
            [&hex, &hex.to_uppercase(), &base64, &url_safe, &format!(" {hex}\n"), &base64.trim_end_matches('=').to_owned()]
        {
            assert_eq!(parse_master_key(text).unwrap(), key, "{text}");
        }
        for text in ["", "ab", &hex[1..], &format!("{hex}00"), &base64[1..], &"g".repeat(64)] {
            let error = parse_master_key(text).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)));
            assert!(text.len() < 10 || !error.to_string().contains(text));
        }
    }
}
