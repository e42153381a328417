//! The layers, laid over each other key by key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::error::ConfigError;
use super::nearest::nearest;
use super::secrets::{self, Secrets};
use super::settings::Config;
use super::{file, validate};

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Flags: the key with its section, the value, and the flag as it was written.
    pub flags: Vec<(String, String, String)>,
}

/// A configuration with its story.
#[derive(Debug)]
pub struct Loaded {
    /// What the gateway goes by.
    pub config: Config,
    /// What is never printed.
    pub secrets: Secrets,
    /// Who set a key that is not at its default.
    pub(super) origins: BTreeMap<String, String>,
    /// Names in the environment that look like ours and are not, each with the nearest that is.
    pub warnings: Vec<String>,
}

/// The section whose further keys belong to a provider.
const OPEN_SECTION: &str = "default_mount";
/// Names in the environment that are not keys.
const OTHER_NAMES: [&str; 1] = ["SLUICE_CONFIG"];

struct Layers {
    known: BTreeMap<String, Value>,
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Sources {
    /// Lays the layers over each other.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let environment = |name: &str| self.environment.get(name).cloned();
        let mut layers = Layers::new()?;
        if let Some((path, text)) = &self.file {
            match file::read(text, &environment) {
                Err(problems) => {
                    layers.problems.extend(problems.iter().map(|(line, why)| format!("{}:{line}: {why}", path.display())));
                }
                Ok(entries) => {
                    for entry in entries {
                        layers.set(&entry.key, entry.value, format!("{}:{}", path.display(), entry.line));
                    }
                }
            }
        }
        for (name, value) in &self.environment {
            layers.set_from_environment(name, value);
        }
        for (key, value, flag) in &self.flags {
            layers.set_text(key, value, flag.clone());
        }
        let secrets = Secrets::from_environment(&environment).unwrap_or_else(|why| {
            layers.problems.push(why);
            Secrets::default()
        });
        layers.finish(secrets, &environment)
    }
}

/// All keys with their defaults.
pub(super) fn known_keys() -> Result<BTreeMap<String, Value>, String> {
    keys_of(&Config::default())
}

/// All keys with what they are set to.
pub(super) fn keys_of(config: &Config) -> Result<BTreeMap<String, Value>, String> {
    let table = Table::try_from(config).map_err(|error| error.to_string())?;
    let mut keys = BTreeMap::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                keys.extend(section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => {
                keys.insert(name, value);
            }
        }
    }
    Ok(keys)
}

/// The name in the environment of a key.
pub(super) fn environment_name(key: &str) -> String {
    format!("SLUICE_{}", key.replace('.', "_").to_ascii_uppercase())
}

impl Layers {
    fn new() -> Result<Self, String> {
        let known = known_keys()?;
        let (origins, problems, warnings) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { values: known.clone(), known, origins, problems, warnings })
    }

    /// A key that a provider may know: any further one of the open section.
    fn is_open(key: &str) -> bool {
        key.split_once('.').is_some_and(|(section, rest)| section == OPEN_SECTION && !rest.is_empty())
    }

    fn unknown(&self, key: &str) -> String {
        let hint = nearest(key, self.known.keys().map(String::as_str));
        hint.map_or_else(String::new, |hint| format!("; did you mean `{hint}`?"))
    }

    /// Sets a key to a value of the file.
    fn set(&mut self, key: &str, value: Value, origin: String) {
        let Some(default) = self.known.get(key) else {
            if !Self::is_open(key) {
                let hint = self.unknown(key);
                self.problems.push(format!("{origin}: there is no key `{key}`{hint}"));
                return;
            }
            let text = match value {
                Value::String(text) => text,
                Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => value.to_string(),
                _ => {
                    self.problems.push(format!("{origin}: `{key}` must be a single value"));
                    return;
                }
            };
            self.put(key, Value::String(text), origin);
            return;
        };
        let strings = |value: &Value| value.as_array().is_none_or(|items| items.iter().all(Value::is_str));
        if default.same_type(&value) && strings(&value) {
            self.put(key, value, origin);
        } else {
            let wanted = type_name(default);
            self.problems.push(format!("{origin}: `{key}` must be {wanted}, not {}", type_name(&value)));
        }
    }

    /// Sets a key to what a text says.
    fn set_text(&mut self, key: &str, text: &str, origin: String) {
        let Some(default) = self.known.get(key) else {
            // The open section takes texts, and `set` tells about every other.
            return self.set(key, Value::String(text.to_owned()), origin);
        };
        let trimmed = text.trim();
        let value = match default {
            Value::Integer(_) => trimmed.replace('_', "").parse().ok().map(Value::Integer),
            Value::Boolean(_) => match trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
                "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
                _ => None,
            },
            Value::Array(_) => {
                let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            _ => Some(Value::String(text.to_owned())),
        };
        match value {
            Some(value) => self.put(key, value, origin),
            None => {
                let wanted = type_name(default);
                self.problems.push(format!("{origin}: `{key}` must be {wanted}, not `{text}`"));
            }
        }
    }

    fn set_from_environment(&mut self, name: &str, value: &str) {
        let Some(rest) = name.strip_prefix("SLUICE_") else { return };
        if OTHER_NAMES.contains(&name) || secrets::NAMES.iter().any(|(secret, _)| *secret == name) {
            return;
        }
        let key = self.known.keys().find(|key| environment_name(key) == name).cloned();
        if let Some(key) = key {
            return self.set_text(&key, value, name.to_owned());
        }
        let open = format!("{}_", OPEN_SECTION.to_ascii_uppercase());
        if let Some(setting) = rest.strip_prefix(&open).filter(|setting| !setting.is_empty()) {
            return self.set_text(&format!("{OPEN_SECTION}.{}", setting.to_ascii_lowercase()), value, name.to_owned());
        }
        let names: Vec<String> = self.known.keys().map(|key| environment_name(key)).collect();
        let hint = nearest(name, names.iter().map(String::as_str)).unwrap_or_default();
        let message = format!("{name}: there is no such key in the environment; did you mean `{hint}`?");
        let section = self
            .known
            .keys()
            .filter_map(|key| key.split_once('.'))
            .any(|(section, _)| rest.strip_prefix(&section.to_ascii_uppercase()).is_some_and(|rest| rest.starts_with('_')));
        // An orchestrator that runs services named sluice-… puts their addresses into every environment.
        let foreign = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.contains(end));
        if section && !foreign {
            self.problems.push(message);
        } else if !foreign {
            self.warnings.push(message);
        }
    }

    fn put(&mut self, key: &str, value: Value, origin: String) {
        self.values.insert(key.to_owned(), value);
        self.origins.insert(key.to_owned(), origin);
    }

    fn finish(mut self, secrets: Secrets, environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigError> {
        let config = match Config::deserialize(Value::Table(nest(&self.values))) {
            Ok(mut config) => {
                config.resolve(environment);
                for (key, why) in validate::problems(&config) {
                    let origin = self.origins.get(&key).map_or("default", String::as_str);
                    self.problems.push(format!("{origin}: `{key}` {why}"));
                }
                config
            }
            Err(error) => {
                self.blame(&error.to_string());
                Config::default()
            }
        };
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        Ok(Loaded { config, secrets, origins: self.origins, warnings: self.warnings })
    }

    /// Finds which of the keys that were set cannot be: each alone on top of the defaults.
    fn blame(&mut self, whole: &str) {
        let mut found = Vec::new();
        for (key, origin) in &self.origins {
            let mut values = self.known.clone();
            if let Some(value) = self.values.get(key) {
                values.insert(key.clone(), value.clone());
            }
            if let Err(error) = Config::deserialize(Value::Table(nest(&values))) {
                found.push(format!("{origin}: `{key}`: {}", error.message().trim()));
            }
        }
        if found.is_empty() {
            found.push(whole.trim().to_owned());
        }
        self.problems.append(&mut found);
    }
}

/// Keys with dots to sections.
pub(super) fn nest(values: &BTreeMap<String, Value>) -> Table {
    let mut table = Table::new();
    for (key, value) in values {
        match key.split_once('.') {
            None => {
                table.insert(key.clone(), value.clone());
            }
            Some((section, key)) => {
                let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(section) = section {
                    section.insert(key.to_owned(), value.clone());
                }
            }
        }
    }
    table
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) | Value::Datetime(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of strings",
        Value::Table(_) => "a section",
    }
}
