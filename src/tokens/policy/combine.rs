//! How policies come together
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>).

use super::document::{Decision, Policy, Request, Said};
use super::principal::{Acting, Reach};

/// What binds the one who asks.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'p> {
    /// The policies of the identity; `None`: it may do everything, as an account itself does.
    pub identity: Option<&'p [Policy]>,
    /// The permission boundary; `None` without one.
    pub boundary: Option<&'p Policy>,
    /// The session policies, of which one must allow; `None` without any.
    pub session: Option<&'p [Policy]>,
}

impl Bounds<'_> {
    /// What nothing binds.
    pub const NONE: Self = Self { identity: None, boundary: None, session: None };
}

/// What policies on one side say together.
fn together<'p>(policies: impl IntoIterator<Item = &'p Policy>, request: &Request<'_>) -> Decision {
    let mut decision = Decision::Silent;
    for policy in policies {
        match policy.decide(request) {
            Decision::Deny => return Decision::Deny,
            Decision::Allow => decision = Decision::Allow,
            Decision::Silent => {}
        }
    }
    decision
}

/// Decides about a request to something of the sender's own account, or of another's, whose policy says this.
///
/// `Deny`: it is refused. `Allow`: the resource's policy lets the sender in. `Silent`: the sender may, as far as its own account can say;
/// in its own account that is enough, in another it takes something of that account's (a list) to let the sender in.
#[must_use]
pub fn combine(bounds: Bounds<'_>, request: &Request<'_>, resource: Said, same_account: bool) -> Decision {
    let identity = bounds.identity.map_or(Decision::Allow, |policies| together(policies, request));
    let boundary = bounds.boundary.map_or(Decision::Allow, |policy| policy.decide(request));
    let session = bounds.session.map_or(Decision::Allow, |policies| together(policies, request));
    if resource == Said::Deny || [identity, boundary, session].contains(&Decision::Deny) {
        return Decision::Deny;
    }
    let within = |decision| decision == Decision::Allow;
    let own = within(identity) && within(boundary) && within(session);
    if own {
        return resource.into();
    }
    if !same_account {
        // Another account can give nothing to somebody whose own account does not.
        return Decision::Deny;
    }
    // Who is named in person needs nothing of the own account; a role that is named stays within boundary and session.
    let person = request.principal.is_some_and(|who| matches!(who.acting, Acting::Role { .. } | Acting::Federated { .. }));
    let enough = match resource {
        Said::Allow(Reach::Direct) => person || within(session),
        Said::Allow(Reach::Role) => within(boundary) && within(session),
        Said::Allow(Reach::Account) | Said::Deny | Said::Silent => false,
    };
    if enough { Decision::Allow } else { Decision::Deny }
}

/// Whether what [`combine`] decided lets the sender do it where there are no lists.
#[must_use]
pub fn permits(decision: Decision, same_account: bool) -> bool {
    decision == Decision::Allow || (same_account && decision == Decision::Silent)
}
