//! One line of a `Condition` block.

use super::json::Json;
use super::operator::{Kind, Operator, Set, Value};
use super::pattern::Variables;

/// An operator, a key and the values it is compared with. Met by any of them, or, negated, by none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    /// In lower case.
    pub(super) key: String,
    pub(super) values: Vec<Value>,
}

impl Condition {
    /// Reads the keys of one operator; `Err` with where in it and what.
    pub(super) fn read(
        operator: Operator,
        keys: &Json,
        variables: bool,
        key_exists: fn(&str) -> bool,
    ) -> Result<Vec<Self>, (String, String)> {
        let Json::Object(keys) = keys else {
            return Err((String::new(), "Condition operator must hold an object of keys".to_owned()));
        };
        let mut conditions = Vec::with_capacity(keys.len());
        for (key, values) in keys {
            let wrong = |what: &str| (format!(".{key}"), what.to_owned());
            if !key_exists(key) {
                return Err(wrong("Policy has an invalid condition key"));
            }
            let read = |value: &Json| {
                let text = value.scalar().ok_or_else(|| wrong("Condition value must be a text, a number or a boolean"))?;
                Value::read(operator.kind, &text, variables).ok_or_else(|| wrong("Condition value does not suit its operator"))
            };
            let values = values.many().iter().map(read).collect::<Result<Vec<_>, _>>()?;
            if values.is_empty() {
                return Err(wrong("Condition has no value"));
            }
            conditions.push(Self { operator, key: key.to_ascii_lowercase(), values });
        }
        Ok(conditions)
    }

    /// Whether a request with these values of the key meets it.
    pub(super) fn is_met(&self, asked: &[String], variables: Variables<'_>) -> bool {
        let Operator { kind, negated, if_exists, set } = self.operator;
        if kind == Kind::Null {
            return self.values.contains(&Value::Bool(asked.is_empty()));
        }
        if asked.is_empty() {
            return match set {
                Set::All => true,
                Set::Any => if_exists,
                Set::One => if_exists || negated,
            };
        }
        let fits = |asked: &String| self.values.iter().any(|value| value.fits(kind, asked, variables)) != negated;
        match set {
            Set::All => asked.iter().all(fits),
            Set::Any => asked.iter().any(fits),
            // Several values where one is expected: all of them must not fit a negated operator, any must fit another.
            Set::One if negated => asked.iter().all(fits),
            Set::One => asked.iter().any(fits),
        }
    }
}
