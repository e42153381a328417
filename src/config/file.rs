//! The file: TOML, every value with the line it stands on.

use toml::Value;
use toml::de::{DeTable, DeValue};

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its key, with the section: `server.listen`.
    pub(super) key: String,
    /// Its value; strings are expanded.
    pub(super) value: Value,
    /// The line of its key, from 1.
    pub(super) line: usize,
}

/// Reads all values of a file, one level of sections deep.
///
/// # Errors
/// What the parser says, with its line, and names of the environment that are not set.
pub(super) fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Entry>, Vec<(usize, String)>> {
    let line_of = |offset: usize| text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let line = line_of(error.span().map_or(0, |span| span.start));
            return Err(vec![(line, error.message().to_owned())]);
        }
    };
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let mut take = |key: String, offset: usize, value: &DeValue<'_>| {
        let line = line_of(offset);
        match convert(value).and_then(|value| expand(value, environment)) {
            Ok(value) => entries.push(Entry { key, value, line }),
            Err(why) => problems.push((line, format!("`{key}`: {why}"))),
        }
    };
    for (name, value) in &table {
        match value.get_ref().as_table() {
            None => take(name.get_ref().to_string(), name.span().start, value.get_ref()),
            Some(section) => {
                for (key, value) in section {
                    take(format!("{}.{}", name.get_ref(), key.get_ref()), key.span().start, value.get_ref());
                }
            }
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

fn convert(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            Value::Integer(i64::from_str_radix(&digits, number.radix()).map_err(|error| error.to_string())?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().map_err(|_| "not a number")?),
        DeValue::Datetime(when) => Value::String(when.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| convert(item.get_ref())).collect::<Result<_, _>>()?),
        DeValue::Table(_) => return Err("there are no sections within sections".to_owned()),
    })
}

/// Puts the environment into `${NAME}`; `$${` is a plain `${`.
fn expand(value: Value, environment: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(expand_text(&text, environment)?),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| expand(item, environment)).collect::<Result<_, _>>()?),
        other => other,
    })
}

fn expand_text(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let after = &from[2..];
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, behind) = after.split_once('}').ok_or("`${` without its `}`")?;
        out.push_str(before);
        out.push_str(&environment(name).ok_or_else(|| format!("`${{{name}}}` is not set in the environment"))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_environment_goes_into_strings() {
        let environment = |name: &str| (name == "DISK").then(|| "/mnt/disk".to_owned());
        let expand = |text: &str| expand_text(text, &environment);
        assert_eq!(expand("${DISK}/data and ${DISK}").unwrap(), "/mnt/disk/data and /mnt/disk");
        assert_eq!(expand("$${DISK} {data_dir} $5").unwrap(), "${DISK} {data_dir} $5");
        assert!(expand("${NONE}").unwrap_err().contains("NONE"));
        assert!(expand("${DISK").is_err());
    }
}
