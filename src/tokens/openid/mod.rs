//! Identity providers that speak OpenID Connect: what an account has registered, and what a token of one says
//! (<https://openid.net/specs/openid-connect-core-1_0.html>, <https://openid.net/specs/openid-connect-discovery-1_0.html>).
//!
//! - A token is good when one of the issuer's keys signed it (RS256 or ES256, and nothing that the token itself could choose instead), when
//!   it is in its time, and when it is for one of the registered clients. Who may do what with it, a role's trust policy says.
//! - The issuer's keys are read over HTTP(S): a bounded answer in a bounded time, no redirects. They are kept for an hour, read again when a
//!   token names a key that is not among them (at most every half minute), and, while the issuer does not answer, believed for a day.
//! - What is asked of an issuer, somebody who is not signed in can cause: each is asked by one request at a time, a failure is remembered
//!   for some seconds, and only issuers that an account has registered are asked at all.

mod crypto;
mod fetch;
mod keys;
mod provider;
#[cfg(test)]
mod tests;
mod token;

pub use provider::{MAX_CLIENTS, MAX_PROVIDERS, OpenIdProvider, issuer_place};
pub use token::{WebIdentity, WebRefusal};

pub(super) use keys::Issuers;
