//! The bearer token of the API: a file of its own in the data directory, for its owner only.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::tokens::Secret;

/// Reads the token, made on the first call: 64 hexadecimal digits in a file of mode 0600. Blocks: for start-up.
///
/// # Errors
/// When the file cannot be read or created, or is empty.
pub fn admin_token(path: &Path) -> io::Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            // A file cut short would lock the owner out of a gateway that runs: it is as well not there.
            let written = file.write_all(hex::encode(bytes).as_bytes()).and_then(|()| file.sync_all());
            if written.is_err() {
                let _ = std::fs::remove_file(path);
            }
            written?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    read_admin_token(path)
}

/// Reads the token of a gateway.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_admin_token(path: &Path) -> io::Result<Secret> {
    let text = std::fs::read_to_string(path)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty: remove it, and a new token is made"));
    }
    Ok(Secret::new(text.to_owned()))
}
