//! Condition operators (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>):
//! what one value of a request is compared with, and how.

use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::pattern::{Pattern, Reading, Variables};

/// What an operator compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Texts: letter for letter, case aside, or with wildcards.
    Text {
        fold: bool,
        wildcards: bool,
    },
    Number(Order),
    Date(Order),
    Bool,
    Binary,
    Address,
    Arn,
    /// Whether the key is there at all.
    Null,
}

/// The order in which a request's value must stand to the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equal => ordering == Some(Ordering::Equal),
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// How the several values of a request count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// The request has one value.
    One,
    /// `ForAnyValue:`
    Any,
    /// `ForAllValues:`
    All,
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) kind: Kind,
    /// `…Not…`: met when no value of the policy fits.
    pub(super) negated: bool,
    /// `…IfExists`: met when the request has no such key.
    pub(super) if_exists: bool,
    pub(super) set: Set,
}

impl Operator {
    /// By name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (set, name) = match name.split_once(':') {
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(_) => return None,
            None => (Set::One, name),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let text = |fold, wildcards| Kind::Text { fold, wildcards };
        let (kind, negated) = match name {
            "StringEquals" => (text(false, false), false),
            "StringNotEquals" => (text(false, false), true),
            "StringEqualsIgnoreCase" => (text(true, false), false),
            "StringNotEqualsIgnoreCase" => (text(true, false), true),
            "StringLike" => (text(false, true), false),
            "StringNotLike" => (text(false, true), true),
            "NumericEquals" => (Kind::Number(Order::Equal), false),
            "NumericNotEquals" => (Kind::Number(Order::Equal), true),
            "NumericLessThan" => (Kind::Number(Order::Less), false),
            "NumericLessThanEquals" => (Kind::Number(Order::LessOrEqual), false),
            "NumericGreaterThan" => (Kind::Number(Order::Greater), false),
            "NumericGreaterThanEquals" => (Kind::Number(Order::GreaterOrEqual), false),
            "DateEquals" => (Kind::Date(Order::Equal), false),
            "DateNotEquals" => (Kind::Date(Order::Equal), true),
            "DateLessThan" => (Kind::Date(Order::Less), false),
            "DateLessThanEquals" => (Kind::Date(Order::LessOrEqual), false),
            "DateGreaterThan" => (Kind::Date(Order::Greater), false),
            "DateGreaterThanEquals" => (Kind::Date(Order::GreaterOrEqual), false),
            "Bool" => (Kind::Bool, false),
            "BinaryEquals" => (Kind::Binary, false),
            "IpAddress" => (Kind::Address, false),
            "NotIpAddress" => (Kind::Address, true),
            "ArnEquals" | "ArnLike" => (Kind::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Kind::Arn, true),
            "Null" if !if_exists && set == Set::One => (Kind::Null, false),
            _ => return None,
        };
        Some(Self { kind, negated, if_exists, set })
    }
}

/// A value of a policy, ready to be compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Pattern),
    Number(f64),
    /// Seconds since the epoch, with a fraction.
    Date(f64),
    Bool(bool),
    Binary(Vec<u8>),
    Network(Network),
    /// Part for part.
    Arn(Vec<Pattern>),
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    pub(super) bits: u8,
}

impl Value {
    /// Reads a value for an operator of this kind.
    pub(super) fn read(kind: Kind, text: &str, variables: bool) -> Option<Self> {
        Some(match kind {
            Kind::Text { fold, wildcards } => Self::Text(Pattern::read(text, Reading { wildcards, variables, fold })?),
            Kind::Number(_) => Self::Number(number(text)?),
            Kind::Date(_) => Self::Date(date(text)?),
            Kind::Bool | Kind::Null => Self::Bool(boolean(text)?),
            Kind::Binary => Self::Binary(BASE64.decode(text).ok()?),
            Kind::Address => Self::Network(Network::read(text)?),
            Kind::Arn => {
                let parts = if text == "*" { vec!["*"; 6] } else { arn_parts(text, variables) };
                let reading = Reading { wildcards: true, variables, fold: false };
                let parts: Option<Vec<_>> = parts.into_iter().map(|part| Pattern::read(part, reading)).collect();
                Self::Arn(parts.filter(|p| p.len() == 6)?)
            }
        })
    }

    /// Whether a value of a request stands to it as the operator wants.
    pub(super) fn fits(&self, kind: Kind, asked: &str, variables: Variables<'_>) -> bool {
        match (self, kind) {
            (Self::Text(pattern), _) => pattern.fits(asked, variables),
            (Self::Number(wanted), Kind::Number(order)) => number(asked).is_some_and(|n| order.holds(n.partial_cmp(wanted))),
            (Self::Date(wanted), Kind::Date(order)) => date(asked).is_some_and(|d| order.holds(d.partial_cmp(wanted))),
            (Self::Bool(wanted), _) => boolean(asked) == Some(*wanted),
            (Self::Binary(wanted), _) => BASE64.decode(asked).is_ok_and(|bytes| bytes == *wanted),
            (Self::Network(network), _) => asked.parse().is_ok_and(|address| network.holds(address)),
            (Self::Arn(parts), _) => {
                let asked: Vec<&str> = asked.splitn(6, ':').collect();
                asked.len() == parts.len() && parts.iter().zip(asked).all(|(pattern, part)| pattern.fits(part, variables))
            }
            (Self::Number(_) | Self::Date(_), _) => false,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|n: &f64| n.is_finite())
}

fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false)].into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A moment as RFC 3339 writes it, a day, or seconds since the epoch.
fn date(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let moment = OffsetDateTime::parse(&whole, &Rfc3339).ok()?;
    #[allow(clippy::cast_precision_loss, reason = "seconds of this era are far below 2^53")]
    let seconds = moment.unix_timestamp() as f64;
    Some(seconds + f64::from(moment.nanosecond()) / 1e9)
}

/// The six parts of an ARN; a colon in a variable does not divide.
pub(super) fn arn_parts(text: &str, variables: bool) -> Vec<&str> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'$' if variables && text[at..].starts_with("${") => inside = true,
            b'}' => inside = false,
            b':' if !inside && parts.len() < 5 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn holds(self, asked: IpAddr) -> bool {
        // A dual-stack listener sees IPv4 peers as mapped addresses.
        match (self.address, asked.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(asked)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                network.to_bits() & mask == asked.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(asked)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                network.to_bits() & mask == asked.to_bits() & mask
            }
            _ => false,
        }
    }
}
