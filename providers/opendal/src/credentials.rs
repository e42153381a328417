//! Who the gateway is to the service: a file of `name = value` lines. Never a setting of the mount: those are stored in the clear.

use std::fmt;
use std::path::Path;

use sluice_provider::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use crate::Service;

/// A file of credentials is small.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What a file of credentials says.
#[derive(Default)]
pub(crate) struct Secrets(Vec<(String, Zeroizing<String>)>);

impl Secrets {
    /// Reads a file. Lines that begin with `#` are left out.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] when there is no such file, or it says something that the service does not know.
    pub(crate) async fn read(file: &Path, service: Service) -> Result<Self> {
        let refused = |reason: String| {
            Error::new(ErrorKind::PermissionDenied, "credentials file").with("file", file.display()).with("reason", reason)
        };
        let meta = tokio::fs::metadata(file).await.map_err(|e| refused(e.to_string()))?;
        if meta.len() > MAX_FILE_BYTES {
            return Err(refused(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        let text = Zeroizing::new(tokio::fs::read_to_string(file).await.map_err(|e| refused(e.to_string()))?);
        Self::parse(&text, service).map_err(refused)
    }

    fn parse(text: &str, service: Service) -> Result<Self, String> {
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { return Err(format!("line {number} is not `name = value`")) };
            let (name, value) = (name.trim(), value.trim());
            if !service.secrets().contains(&name) {
                let known = service.secrets().join(", ");
                return Err(format!("line {number} has a name that {service} does not know; known: {known}"));
            }
            found.push((name.to_owned(), Zeroizing::new(value.to_owned())));
        }
        Ok(Self(found))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn lines_are_read_and_never_shown() {
        let secrets = Secrets::parse("# mine\n\npassword = hun=ter2 \n", Service::Webdav).unwrap();
        assert_eq!(secrets.iter().collect::<Vec<_>>(), [("password", "hun=ter2")]);
        assert_eq!(format!("{secrets:?}"), "[\"password\"]");
        for text in ["hunter2", "pasword = hunter2", "account_key = hunter2"] {
            let refusal = Secrets::parse(text, Service::Webdav).unwrap_err();
            assert!(refusal.contains("line 1") && !refusal.contains("hunter2"), "{refusal}");
        }
    }
}
