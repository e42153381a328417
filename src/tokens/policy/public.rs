//! Whether a policy lets in everybody
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html#access-control-block-public-access-policy-status>).

use std::net::IpAddr;

use super::condition::Condition;
use super::document::{Policy, Statement};
use super::operator::{Kind, Network, Set, Value};

/// The keys that bind a statement to somebody in particular, once their values are fixed.
const BINDING: [&str; 14] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
    "s3:dataaccesspointarn",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

impl Policy {
    /// Whether it allows something to everybody, or to a range of senders that is no better.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }
}

impl Statement {
    fn is_public(&self) -> bool {
        self.allows
            && self.principals.as_ref().is_some_and(super::principal::Principals::are_everybody)
            && !self.conditions.iter().any(Condition::binds)
    }
}

impl Condition {
    fn binds(&self) -> bool {
        let operator = self.operator;
        let strict = !operator.negated && !operator.if_exists && operator.set != Set::All;
        strict && BINDING.contains(&self.key.as_str()) && operator.kind != Kind::Null && self.values.iter().all(is_narrow)
    }
}

fn is_narrow(value: &Value) -> bool {
    match value {
        Value::Text(pattern) => pattern.is_fixed(),
        Value::Arn(parts) => {
            parts.get(4).is_some_and(|account| account.is_fixed()) && parts.get(5).is_some_and(|r| !r.head().is_empty())
        }
        Value::Network(network) => is_narrow_network(*network),
        Value::Number(_) | Value::Date(_) | Value::Bool(_) | Value::Binary(_) => false,
    }
}

fn is_narrow_network(network: Network) -> bool {
    match network.address {
        IpAddr::V4(_) => network.bits >= 8,
        IpAddr::V6(_) => network.bits >= 32,
    }
}
