//! A request to one of the APIs, and the table of their actions.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;

use super::fault::Fault;
use super::{entities, groups, keys, managed, names, openid, policies, simulate, sts, summary, web_identity};
use crate::meta::{EntityKind, EntityRecord, MetaStore};
use crate::s3::Parts;
use crate::s3::front::Peer;
use crate::s3::operation::Op;
use crate::s3::policy::{About, values_of_request};
use crate::s3::query::Query;
use crate::s3::xml::Xml;
use crate::tokens::policy::Target;
use crate::tokens::{Actor, Identity, Tokens};

/// What an action has to say; `None` when it is done and has nothing to.
pub(super) type Outcome = Result<Option<Xml>, Fault>;

/// A request.
pub(crate) struct Api<'a> {
    pub(super) tokens: &'a Tokens,
    pub(super) actor: Actor,
    pub(super) account: Arc<Identity>,
    pub(super) params: Query,
    about: About<'a>,
}

macro_rules! actions {
    ($($service:literal { $($name:ident => $call:expr),* $(,)? })*) => {
        /// An action by its name, with its service.
        pub(super) fn action(name: &str) -> Option<(&'static str, &'static str)> {
            match name { $($(stringify!($name) => Some((stringify!($name), $service)),)*)* _ => None }
        }

        /// Carries out an action.
        pub(super) async fn dispatch(api: &Api<'_>, name: &str) -> Outcome {
            match name {
                $($(stringify!($name) => $call(api).await,)*)*
                _ => {
                    let asked: String = api.params.get("Action").unwrap_or_default().chars().take(64).collect();
                    Err(Fault::new(400, "InvalidAction", format!("Could not find operation {asked}")))
                }
            }
        }
    };
}

actions! {
    "iam" {
        CreateUser => entities::create_user, GetUser => entities::get_user, ListUsers => entities::list_users,
        UpdateUser => entities::update_user, DeleteUser => entities::delete_user,
        TagUser => entities::tag_user, UntagUser => entities::untag_user, ListUserTags => entities::list_user_tags,
        CreateGroup => entities::create_group, GetGroup => groups::get, ListGroups => entities::list_groups,
        UpdateGroup => entities::update_group, DeleteGroup => entities::delete_group,
        AddUserToGroup => groups::add_user, RemoveUserFromGroup => groups::remove_user, ListGroupsForUser => groups::of_user,
        CreateRole => entities::create_role, GetRole => entities::get_role, ListRoles => entities::list_roles,
        UpdateRole => entities::update_role, UpdateAssumeRolePolicy => entities::update_trust, DeleteRole => entities::delete_role,
        TagRole => entities::tag_role, UntagRole => entities::untag_role, ListRoleTags => entities::list_role_tags,
        CreateAccessKey => keys::create, ListAccessKeys => keys::list, UpdateAccessKey => keys::update,
        DeleteAccessKey => keys::delete, GetAccessKeyLastUsed => keys::last_used,
        PutUserPolicy => policies::put_user, GetUserPolicy => policies::get_user, ListUserPolicies => policies::list_user,
        DeleteUserPolicy => policies::delete_user,
        PutGroupPolicy => policies::put_group, GetGroupPolicy => policies::get_group, ListGroupPolicies => policies::list_group,
        DeleteGroupPolicy => policies::delete_group,
        PutRolePolicy => policies::put_role, GetRolePolicy => policies::get_role, ListRolePolicies => policies::list_role,
        DeleteRolePolicy => policies::delete_role,
        AttachUserPolicy => policies::attach_user, DetachUserPolicy => policies::detach_user,
        ListAttachedUserPolicies => policies::attached_user,
        AttachGroupPolicy => policies::attach_group, DetachGroupPolicy => policies::detach_group,
        ListAttachedGroupPolicies => policies::attached_group,
        AttachRolePolicy => policies::attach_role, DetachRolePolicy => policies::detach_role,
        ListAttachedRolePolicies => policies::attached_role,
        PutUserPermissionsBoundary => policies::put_user_boundary, DeleteUserPermissionsBoundary => policies::delete_user_boundary,
        PutRolePermissionsBoundary => policies::put_role_boundary, DeleteRolePermissionsBoundary => policies::delete_role_boundary,
        CreateOpenIDConnectProvider => openid::create, GetOpenIDConnectProvider => openid::get,
        ListOpenIDConnectProviders => openid::list, DeleteOpenIDConnectProvider => openid::delete,
        AddClientIDToOpenIDConnectProvider => openid::add_client, RemoveClientIDFromOpenIDConnectProvider => openid::remove_client,
        UpdateOpenIDConnectProviderThumbprint => openid::set_thumbprints,
        TagOpenIDConnectProvider => openid::tag, UntagOpenIDConnectProvider => openid::untag,
        ListOpenIDConnectProviderTags => openid::list_tags,
        GetAccountSummary => summary::get,
        SimulatePrincipalPolicy => simulate::principal, SimulateCustomPolicy => simulate::custom,
        CreatePolicy => managed::create, GetPolicy => managed::get, ListPolicies => managed::list, DeletePolicy => managed::delete,
        CreatePolicyVersion => managed::create_version, GetPolicyVersion => managed::get_version,
        ListPolicyVersions => managed::list_versions, SetDefaultPolicyVersion => managed::set_default_version,
        DeletePolicyVersion => managed::delete_version, ListEntitiesForPolicy => managed::list_entities,
    }
    "sts" {
        GetCallerIdentity => sts::get_caller_identity, GetSessionToken => sts::get_session_token,
        GetFederationToken => sts::get_federation_token, AssumeRole => sts::assume_role,
        AssumeRoleWithWebIdentity => web_identity::assume_role,
        // Answered before this table is asked: the credentials may be over.
        RenewSession => sts::renew_unsigned,
    }
}

impl<'a> Api<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        actor: Actor,
        params: Query,
        headers: &'a HeaderMap,
        query: &'a Query,
        peer: Option<Peer>,
    ) -> Self {
        let about = About::new(Op::NotImplemented, "", headers, query, peer);
        Self { tokens: &parts.tokens, account: actor.account(), actor, params, about }
    }

    pub(super) fn store(&self) -> &dyn MetaStore {
        self.tokens.store()
    }

    /// The values of a condition key: those of the action, and what head and connection tell.
    pub(super) fn values(&self, own: &[(&str, Vec<String>)], key: &str) -> Vec<String> {
        match own.iter().find(|(name, _)| *name == key) {
            Some((_, values)) => values.clone(),
            None => values_of_request(&self.about, SystemTime::now(), key),
        }
    }

    /// Checks that the sender may do this to something of the own account.
    pub(super) fn need(&self, action: &str, place: &str) -> Result<(), Fault> {
        self.need_with(action, place, &[])
    }

    /// As [`need`](Self::need), with the values of condition keys of the action.
    pub(super) fn need_with(&self, action: &str, place: &str, own: &[(&str, Vec<String>)]) -> Result<(), Fault> {
        let number = &self.account.number;
        let target = Target { service: "iam", account: number, name: place };
        if self.actor.may(action, target, &|key| self.values(own, key)) {
            return Ok(());
        }
        let who = self.actor.principal().arn();
        Err(Fault::denied(format!(
            "User: {who} is not authorized to perform: {action} on resource: arn:aws:iam::{number}:{place}"
        )))
    }

    /// A user, group or role by the name in the form, to which the sender may do this. Who may not is not told whether it is there.
    pub(super) async fn found(&self, kind: EntityKind, field: &str, action: &str) -> Result<EntityRecord, Fault> {
        self.found_with(kind, field, action, &[]).await
    }

    pub(super) async fn found_with(
        &self,
        kind: EntityKind,
        field: &str,
        action: &str,
        own: &[(&str, Vec<String>)],
    ) -> Result<EntityRecord, Fault> {
        let name = names::name(&self.params, field, 128)?;
        let found = self.store().entity_named(&self.account.id, kind, name).await?;
        let place = found.as_ref().map_or_else(|| format!("{}/{name}", kind.as_str()), names::place);
        self.need_with(action, &place, own)?;
        found.ok_or_else(|| Fault::no_such(format!("The {} with name {name} cannot be found.", kind.as_str())))
    }

    /// The user that the form names, or the one who asks; `None` for the account itself.
    pub(super) async fn user_or_self(&self, action: &str) -> Result<Option<EntityRecord>, Fault> {
        if self.params.filled("UserName").is_some() {
            return self.found(EntityKind::User, "UserName", action).await.map(Some);
        }
        match self.actor.holder() {
            Some(holder) if holder.entity.kind == EntityKind::User => {
                self.need(action, &names::place(&holder.entity))?;
                Ok(Some(holder.entity.clone()))
            }
            Some(_) => Err(Fault::validation("Must specify userName when calling with non-User credentials")),
            None => self.need(action, "root").map(|()| None),
        }
    }

    /// Where a page begins, and how long it is.
    pub(super) fn page(&self) -> Result<(String, usize), Fault> {
        let most = names::number(&self.params, "MaxItems", 1..=1000, 100)?;
        let after = match self.params.filled("Marker") {
            None => String::new(),
            Some(marker) => hex::decode(marker)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| Fault::validation("Invalid Marker."))?,
        };
        Ok((after, usize::try_from(most).unwrap_or(100)))
    }

    /// Forgets what was cached of the account's policies.
    pub(super) fn changed(&self) {
        self.tokens.policies_changed(&self.account.id);
    }
}

/// Cuts one item more than a page off, and says where the next page begins.
pub(super) fn paged<T>(mut items: Vec<T>, most: usize, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    let more = items.len() > most;
    items.truncate(most);
    let marker = items.last().filter(|_| more).map(|last| hex::encode(name(last)));
    (items, marker)
}

/// A page of a list that is at hand as a whole, in the order of names.
pub(super) fn cut<T>(items: Vec<T>, after: &str, most: usize, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    let rest = items.into_iter().filter(|item| after.is_empty() || name(item) > after).take(most + 1).collect();
    paged(rest, most, name)
}
