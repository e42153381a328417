//! The effective configuration, as TOML that can be read back, with secrets hidden.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::layers::Loaded;
use super::secrets::{self, is_secret_name};
use super::settings::Config;

const HIDDEN: &str = "********";

impl Config {
    /// The configuration as TOML. Secrets are hidden.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write(self, |_| None)
    }
}

impl Loaded {
    /// The configuration as TOML, each key that is not at its default with who set it. Secrets are hidden.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = write(&self.config, |key| self.origins.get(key).cloned());
        let set = [
            self.secrets.root_access_key.is_some(),
            self.secrets.root_secret_key.is_some(),
            self.secrets.master_key.is_some(),
            self.secrets.admin_token.is_some(),
        ];
        for ((name, _), _) in secrets::NAMES.iter().zip(set).filter(|(_, set)| *set) {
            let _ = writeln!(text, "\n# {name} is set in the environment.");
        }
        text
    }
}

fn write(config: &Config, origin: impl Fn(&str) -> Option<String>) -> String {
    let table = Table::try_from(config).unwrap_or_default();
    let mut text = String::new();
    let line = |text: &mut String, key: &str, path: &str, value: &Value| {
        let value = hide(path, value);
        let origin = origin(path).map_or_else(String::new, |origin| format!(" # {origin}"));
        let _ = writeln!(text, "{} = {value}{origin}", quoted(key));
    };
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        line(&mut text, key, key, value);
    }
    for (name, section) in table.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        let _ = writeln!(text, "\n[{name}]");
        for (key, value) in section {
            line(&mut text, key, &format!("{name}.{key}"), value);
        }
    }
    text
}

fn quoted(key: &str) -> String {
    if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        key.to_owned()
    } else {
        Value::String(key.to_owned()).to_string()
    }
}

fn hide(path: &str, value: &Value) -> Value {
    let key = path.rsplit('.').next().unwrap_or(path);
    if is_secret_name(key) {
        return Value::String(HIDDEN.to_owned());
    }
    match value.as_str() {
        Some(text) => Value::String(hide_password(text)),
        None => value.clone(),
    }
}

/// `scheme://user:password@host` without its password.
fn hide_password(text: &str) -> String {
    let hidden = text.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.split('/').next()?.rsplit_once('@')?;
        let (user, _password) = user.split_once(':')?;
        let path = &rest[rest.find('/').unwrap_or(rest.len())..];
        Some(format!("{scheme}://{user}:{HIDDEN}@{host}{path}"))
    });
    hidden.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_hidden() {
        assert_eq!(hide_password("postgres://me:word@db:5432/sluice"), format!("postgres://me:{HIDDEN}@db:5432/sluice"));
        assert_eq!(hide_password("sqlite:/a/b@c:d"), "sqlite:/a/b@c:d");
        assert_eq!(hide_password("https://host/a:b@c"), "https://host/a:b@c");
    }
}
