//! The bearer token of the API: a file of its own in the data directory, for its owner only.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::tokens::Secret;

/// Reads the token, made on the first call: 64 hexadecimal digits in a file of mode 0600. Blocks: for start-up.
///
/// # Errors
/// When the file cannot be read or created.
pub fn admin_token(path: &Path) -> io::Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    // An empty file is what a start that was cut short left: nobody can have read a token from it.
    match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => return read_admin_token(path),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whole or not at all. The caller holds the data directory, so nobody else is making one.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(hex::encode(bytes).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_start_that_was_cut_short_does_not_keep_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        std::fs::write(&path, "").unwrap();
        std::fs::write(dir.path().join("admin.token.new"), "ha").unwrap();
        let token = admin_token(&path).unwrap();
        assert_eq!(token.expose().len(), 64);
        assert!(admin_token(&path).unwrap().matches(token.expose()), "made once");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
