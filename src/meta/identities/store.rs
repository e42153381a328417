//! The trait over any database.
//!
//! What a database brings, under the names that are used here: the module `types` with `Time`; `patiently`, `failed` and `failed_or`;
//! the methods `reading`, `writing` (pools) and `begin_change` (a transaction in which what is read stays as it is until the end);
//! the records' `FromRow` by [`super::rows`].

/// `identity_store!(Store, types)`, beside `identity_steps!`.
macro_rules! identity_store {
    ($store:ty, $types:ident) => {
        use sqlx::types::Json;
        use sqlx::{query, query_as, query_scalar};
        use std::collections::BTreeMap;
        use $types::Time;

        use $crate::error::{Error, ErrorKind, Result};
        use $crate::meta::identities::*;
        use $crate::runtime::unix_millis;

        #[async_trait::async_trait]
        impl IdentityStore for $store {
            async fn create_account(&self, account: &AccountRecord) -> Result<()> {
                const OPERATION: &str = "create account";
                let created = patiently(|| {
                    query(sql::CREATE_ACCOUNT)
                        .bind(&account.id)
                        .bind(&account.number)
                        .bind(&account.name)
                        .bind(account.root)
                        .bind(account.active)
                        .bind(Time(account.created))
                        .execute(self.writing())
                })
                .await
                .map_err(failed(OPERATION))?;
                refuse(OPERATION, (created.rows_affected() == 0).then_some(ErrorKind::EntityExists), ())
            }

            async fn account(&self, id: &str) -> Result<Option<AccountRecord>> {
                self.one("read account", sql::ACCOUNT, &[id]).await
            }

            async fn account_by_number(&self, number: &str) -> Result<Option<AccountRecord>> {
                self.one("read account", sql::ACCOUNT_BY_NUMBER, &[number]).await
            }

            async fn account_by_name(&self, name: &str) -> Result<Option<AccountRecord>> {
                self.one("read account", sql::ACCOUNT_BY_NAME, &[name]).await
            }

            async fn accounts(&self, after: &str, limit: usize) -> Result<Vec<AccountRecord>> {
                self.page("list accounts", sql::ACCOUNTS, &[after], Some(limit)).await
            }

            async fn set_account_active(&self, id: &str, active: bool) -> Result<bool> {
                let statement = || query(sql::SET_ACCOUNT_ACTIVE).bind(id.to_owned()).bind(active);
                self.change("change account", ErrorKind::NoSuchEntity, Topic::Account, id, statement).await
            }

            async fn delete_account(&self, id: &str) -> Result<bool> {
                const OPERATION: &str = "delete account";
                let statement = || query(sql::DELETE_ACCOUNT).bind(id.to_owned());
                let deleted = self.change(OPERATION, ErrorKind::DeleteConflict, Topic::Account, id, statement).await?;
                // Not deleted and still there: it owns a bucket.
                let owner = !deleted && self.account(id).await?.is_some();
                refuse(OPERATION, owner.then_some(ErrorKind::DeleteConflict), deleted)
            }

            async fn has_root_key(&self) -> Result<bool> {
                patiently(|| query_scalar(sql::HAS_ROOT_KEY).fetch_one(self.reading())).await.map_err(failed("look for root key"))
            }

            async fn set_account_document(
                &self,
                account: &str,
                kind: &str,
                name: &str,
                from: Option<&str>,
                to: Option<&str>,
            ) -> Result<bool> {
                let words = match (from, to) {
                    (None, None) => return Ok(true),
                    (None, Some(_)) => sql::ADD_ACCOUNT_DOCUMENT,
                    (Some(_), Some(_)) => sql::REPLACE_ACCOUNT_DOCUMENT,
                    (Some(_), None) => sql::DELETE_ACCOUNT_DOCUMENT,
                };
                let statement = || {
                    let named = query(words).bind(account.to_owned()).bind(kind.to_owned()).bind(name.to_owned());
                    from.into_iter().chain(to).fold(named, |named, document| named.bind(document.to_owned()))
                };
                self.change("set account document", ErrorKind::NoSuchEntity, Topic::Document, account, statement).await
            }

            async fn account_documents(&self, account: &str, kind: &str) -> Result<Vec<(String, String)>> {
                self.page("list account documents", sql::ACCOUNT_DOCUMENTS, &[account, kind], None).await
            }

            async fn create_entity(&self, entity: &EntityRecord) -> Result<()> {
                const OPERATION: &str = "create user, group or role";
                let created = patiently(|| {
                    query(sql::CREATE_ENTITY)
                        .bind(&entity.id)
                        .bind(&entity.account)
                        .bind(entity.kind.as_str())
                        .bind(&entity.path)
                        .bind(&entity.name)
                        .bind(folded(&entity.name))
                        .bind(&entity.description)
                        .bind(&entity.trust)
                        .bind(i64::from(entity.max_session_secs))
                        .bind(entity.boundary.as_ref().map(|boundary| boundary.arn.as_str()))
                        .bind(entity.boundary.as_ref().and_then(|boundary| boundary.policy.as_deref()))
                        .bind(Json(&entity.tags))
                        .bind(Time(entity.created))
                        .execute(self.writing())
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                refuse(OPERATION, (created.rows_affected() == 0).then_some(ErrorKind::EntityExists), ())
            }

            async fn entity(&self, id: &str) -> Result<Option<EntityRecord>> {
                self.one("read user, group or role", sql::ENTITY, &[id]).await
            }

            async fn entity_named(&self, account: &str, kind: EntityKind, name: &str) -> Result<Option<EntityRecord>> {
                self.one("read user, group or role", sql::ENTITY_NAMED, &[account, kind.as_str(), &folded(name)]).await
            }

            async fn entities(
                &self,
                account: &str,
                kind: EntityKind,
                path: &str,
                after: &str,
                limit: usize,
            ) -> Result<Vec<EntityRecord>> {
                let values = [account, kind.as_str(), &folded(after), path];
                self.page("list users, groups or roles", sql::ENTITIES, &values, Some(limit)).await
            }

            async fn update_entity(&self, from: &EntityRecord, to: &EntityRecord) -> Result<bool> {
                const OPERATION: &str = "change user, group or role";
                if (&from.id, &from.account, from.kind) != (&to.id, &to.account, to.kind) {
                    let message = "id, account and kind stay as they are";
                    return Err(Error::new(ErrorKind::InvalidArgument(message.into()), OPERATION));
                }
                let outcome = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let found: Option<EntityRecord> =
                        query_as(sql::ENTITY).bind(&from.id).fetch_optional(&mut *transaction).await?;
                    if found.as_ref() != Some(from) {
                        return Ok(Ok(false));
                    }
                    if folded(&from.name) != folded(&to.name) {
                        let named = query_as(sql::ENTITY_NAMED).bind(&to.account).bind(to.kind.as_str()).bind(folded(&to.name));
                        let taken: Option<EntityRecord> = named.fetch_optional(&mut *transaction).await?;
                        if taken.is_some() {
                            return Ok(Err(ErrorKind::EntityExists));
                        }
                    }
                    query(sql::UPDATE_ENTITY)
                        .bind(&to.id)
                        .bind(&to.path)
                        .bind(&to.name)
                        .bind(folded(&to.name))
                        .bind(&to.description)
                        .bind(&to.trust)
                        .bind(i64::from(to.max_session_secs))
                        .bind(to.boundary.as_ref().map(|boundary| boundary.arn.as_str()))
                        .bind(to.boundary.as_ref().and_then(|boundary| boundary.policy.as_deref()))
                        .bind(Json(&to.tags))
                        .execute(&mut *transaction)
                        .await?;
                    tell(&mut transaction, Topic::Entity, &to.id).await?;
                    transaction.commit().await.map(|()| Ok(true))
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                outcome.map_err(|kind| Error::new(kind, OPERATION))
            }

            async fn delete_entity(&self, id: &str) -> Result<bool> {
                let statement = || query(sql::DELETE_ENTITY).bind(id.to_owned());
                self.change("delete user, group or role", ErrorKind::DeleteConflict, Topic::Entity, id, statement).await
            }

            async fn add_member(&self, group: &str, user: &str) -> Result<()> {
                const OPERATION: &str = "add user to group";
                let refusal = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let added = query(sql::ADD_MEMBER).bind(group).bind(user).execute(&mut *transaction).await?;
                    if added.rows_affected() == 0 {
                        let member = exists(&mut transaction, sql::IS_MEMBER, group, user).await?;
                        return Ok((!member).then_some(ErrorKind::NoSuchEntity));
                    }
                    tell(&mut transaction, Topic::Entity, user).await?;
                    transaction.commit().await.map(|()| None)
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                refuse(OPERATION, refusal, ())
            }

            async fn remove_member(&self, group: &str, user: &str) -> Result<bool> {
                let statement = || query(sql::REMOVE_MEMBER).bind(group.to_owned()).bind(user.to_owned());
                self.change("remove user from group", ErrorKind::NoSuchEntity, Topic::Entity, user, statement).await
            }

            async fn members(&self, group: &str, after: &str, limit: usize) -> Result<Vec<EntityRecord>> {
                self.page("list users of group", sql::MEMBERS, &[group, &folded(after)], Some(limit)).await
            }

            async fn groups_of(&self, user: &str, after: &str, limit: usize) -> Result<Vec<EntityRecord>> {
                self.page("list groups of user", sql::GROUPS_OF, &[user, &folded(after)], Some(limit)).await
            }

            async fn create_access_key(&self, key: &AccessKeyRecord) -> Result<()> {
                self.create_access_keys(std::slice::from_ref(key)).await
            }

            async fn create_access_keys(&self, keys: &[AccessKeyRecord]) -> Result<()> {
                const OPERATION: &str = "create access key";
                let refusal = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    for key in keys {
                        if let Some(refusal) = add_key(&mut transaction, key).await? {
                            return Ok(Some(refusal));
                        }
                    }
                    transaction.commit().await.map(|()| None)
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                refuse(OPERATION, refusal, ())
            }

            async fn access_key(&self, access_key: &str) -> Result<Option<AccessKeyRecord>> {
                self.one("read access key", sql::ACCESS_KEY, &[access_key]).await
            }

            async fn access_keys(&self, after: &str, limit: usize) -> Result<Vec<AccessKeyRecord>> {
                self.page("list access keys", sql::ACCESS_KEYS, &[after], Some(limit)).await
            }

            async fn access_keys_of(
                &self,
                account: &str,
                user: Option<&str>,
                after: &str,
                limit: usize,
            ) -> Result<Vec<AccessKeyRecord>> {
                const OPERATION: &str = "list access keys";
                match user {
                    Some(user) => self.page(OPERATION, sql::ACCESS_KEYS_OF_USER, &[account, user, after], Some(limit)).await,
                    None => self.page(OPERATION, sql::ACCESS_KEYS_OF_ACCOUNT, &[account, after], Some(limit)).await,
                }
            }

            async fn update_access_key(&self, key: &AccessKeyRecord) -> Result<bool> {
                let statement = || {
                    query(sql::UPDATE_ACCESS_KEY)
                        .bind(key.access_key.clone())
                        .bind(key.active)
                        .bind(key.expires.map(Time))
                        .bind(key.service.as_ref().map(|service| Json(service.to_fields())))
                };
                self.change("change access key", ErrorKind::NoSuchEntity, Topic::Key, &key.access_key, statement).await
            }

            async fn delete_access_key(&self, access_key: &str) -> Result<bool> {
                let statement = || query(sql::DELETE_ACCESS_KEY).bind(access_key.to_owned());
                self.change("delete access key", ErrorKind::NoSuchEntity, Topic::Key, access_key, statement).await
            }

            async fn note_key_use(&self, used: &[(String, i64)]) -> Result<()> {
                patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    for (key, at) in used {
                        query(sql::NOTE_KEY_USE).bind(key).bind(Time(*at)).execute(&mut *transaction).await?;
                    }
                    transaction.commit().await
                })
                .await
                .map_err(failed("note use of access keys"))
            }

            async fn create_session(&self, session: &SessionRecord) -> Result<()> {
                const OPERATION: &str = "begin session";
                let refusal = patiently(|| async {
                    let mut transaction = self.writing().begin().await?;
                    let refusal = add_session(&mut transaction, session).await?;
                    transaction.commit().await.map(|()| refusal)
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                refuse(OPERATION, refusal, ())
            }

            async fn renew_session(&self, token_hash: &[u8; 32], ended_after: i64, session: &SessionRecord) -> Result<bool> {
                const OPERATION: &str = "renew session";
                let outcome = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let old: Option<SessionRecord> =
                        query_as(sql::SESSION).bind(&token_hash[..]).fetch_optional(&mut *transaction).await?;
                    let Some(old) = old.filter(|old| old.expires >= ended_after) else { return Ok(Ok(false)) };
                    let mut named = query_as(sql::REVOCATIONS_NAMED);
                    for name in names(&old.access_key, Some(token_hash), old.entity.as_deref(), &old.account) {
                        named = named.bind(name);
                    }
                    let revocations: Vec<RevocationRecord> = named.fetch_all(&mut *transaction).await?;
                    if revocations.iter().any(|revocation| revocation.ends(old.issued)) {
                        return Ok(Ok(false));
                    }
                    query(sql::DELETE_SESSION).bind(&token_hash[..]).execute(&mut *transaction).await?;
                    if let Some(refusal) = add_session(&mut transaction, session).await? {
                        return Ok(Err(refusal));
                    }
                    tell(&mut transaction, Topic::Key, &old.access_key).await?;
                    transaction.commit().await.map(|()| Ok(true))
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                outcome.map_err(|kind| Error::new(kind, OPERATION))
            }

            async fn session(&self, token_hash: &[u8; 32]) -> Result<Option<SessionRecord>> {
                patiently(|| query_as(sql::SESSION).bind(&token_hash[..]).fetch_optional(self.reading()))
                    .await
                    .map_err(failed("read session"))
            }

            async fn credential(&self, access_key: &str) -> Result<Option<CredentialRecord>> {
                const OPERATION: &str = "read credential";
                let lasting: Vec<rows::LastingCredential> =
                    self.page(OPERATION, sql::LASTING_CREDENTIAL, &[access_key], None).await?;
                let mut rows = lasting.into_iter();
                if let Some(rows::LastingCredential(key, account, entity, first)) = rows.next() {
                    let revocations = first.into_iter().chain(rows.filter_map(|row| row.3)).collect();
                    return Ok(Some(CredentialRecord { key: KeyRecord::Lasting(key), account, entity, revocations }));
                }
                let found = self.one(OPERATION, sql::TEMPORARY_CREDENTIAL, &[access_key]).await?;
                let Some(rows::TemporaryCredential(session, account, entity)) = found else { return Ok(None) };
                let holder = entity.as_ref().map(|entity| entity.id.as_str());
                let names = names(access_key, Some(&session.token_hash), holder, &account.id);
                // Read last: what is revoked after this is told as a change.
                let names = [names[0].as_str(), &names[1], &names[2], &names[3], &names[4]];
                let revocations = self.page(OPERATION, sql::REVOCATIONS_NAMED, &names, None).await?;
                Ok(Some(CredentialRecord { key: KeyRecord::Temporary(session), account, entity, revocations }))
            }

            async fn revoke(&self, revocation: &RevocationRecord) -> Result<()> {
                let what = revocation.what.to_text();
                let statement = || {
                    query(sql::REVOKE)
                        .bind(what.clone())
                        .bind(Time(revocation.before))
                        .bind(revocation.until.map(Time))
                        .bind(revocation.reason.clone())
                };
                self.change("revoke", ErrorKind::NoSuchEntity, Topic::Revocation, &what, statement).await.map(drop)
            }

            async fn revocations(&self, after: &str, limit: usize) -> Result<Vec<RevocationRecord>> {
                self.page("list revocations", sql::REVOCATIONS, &[after], Some(limit)).await
            }

            async fn put_inline_policy(&self, entity: &str, name: &str, document: &str) -> Result<()> {
                const OPERATION: &str = "put inline policy";
                let statement =
                    || query(sql::PUT_INLINE_POLICY).bind(entity.to_owned()).bind(name.to_owned()).bind(document.to_owned());
                let put = self.change(OPERATION, ErrorKind::NoSuchEntity, Topic::Entity, entity, statement).await?;
                refuse(OPERATION, (!put).then_some(ErrorKind::NoSuchEntity), ())
            }

            async fn inline_policies(&self, entity: &str) -> Result<Vec<(String, String)>> {
                self.page("list inline policies", sql::INLINE_POLICIES, &[entity], None).await
            }

            async fn delete_inline_policy(&self, entity: &str, name: &str) -> Result<bool> {
                let statement = || query(sql::DELETE_INLINE_POLICY).bind(entity.to_owned()).bind(name.to_owned());
                self.change("delete inline policy", ErrorKind::NoSuchEntity, Topic::Entity, entity, statement).await
            }

            async fn create_policy(&self, policy: &PolicyRecord, document: &str) -> Result<()> {
                const OPERATION: &str = "create policy";
                let refusal = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let created = query(sql::CREATE_POLICY)
                        .bind(&policy.id)
                        .bind(&policy.account)
                        .bind(&policy.path)
                        .bind(&policy.name)
                        .bind(folded(&policy.name))
                        .bind(&policy.description)
                        .bind(Json(&policy.tags))
                        .bind(Time(policy.created))
                        .bind(Time(policy.updated))
                        .execute(&mut *transaction)
                        .await?;
                    if created.rows_affected() == 0 {
                        return Ok(Some(ErrorKind::EntityExists));
                    }
                    query(sql::ADD_POLICY_VERSION)
                        .bind(&policy.id)
                        .bind(1_i64)
                        .bind(document)
                        .bind(Time(policy.created))
                        .execute(&mut *transaction)
                        .await?;
                    transaction.commit().await.map(|()| None)
                })
                .await
                .map_err(failed_or(OPERATION, ErrorKind::NoSuchEntity))?;
                refuse(OPERATION, refusal, ())
            }

            async fn policy(&self, id: &str) -> Result<Option<PolicyRecord>> {
                self.one("read policy", sql::POLICY, &[id]).await
            }

            async fn policy_named(&self, account: &str, name: &str) -> Result<Option<PolicyRecord>> {
                self.one("read policy", sql::POLICY_NAMED, &[account, &folded(name)]).await
            }

            async fn policies(&self, account: &str, path: &str, after: &str, limit: usize) -> Result<Vec<PolicyRecord>> {
                self.page("list policies", sql::POLICIES, &[account, &folded(after), path], Some(limit)).await
            }

            async fn set_policy_tags(&self, id: &str, tags: &BTreeMap<String, String>) -> Result<bool> {
                let statement = || query(sql::SET_POLICY_TAGS).bind(id.to_owned()).bind(Json(tags.clone()));
                self.change("tag policy", ErrorKind::NoSuchEntity, Topic::Policy, id, statement).await
            }

            async fn delete_policy(&self, id: &str) -> Result<bool> {
                let statement = || query(sql::DELETE_POLICY).bind(id.to_owned());
                self.change("delete policy", ErrorKind::DeleteConflict, Topic::Policy, id, statement).await
            }

            async fn add_policy_version(
                &self,
                id: &str,
                document: &str,
                created: i64,
                default: bool,
                most: usize,
            ) -> Result<u32> {
                const OPERATION: &str = "create policy version";
                let outcome = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let version: Option<i64> =
                        query_scalar(sql::NEXT_POLICY_VERSION).bind(id).fetch_optional(&mut *transaction).await?;
                    let Some(version) = version else { return Ok(Err(ErrorKind::NoSuchEntity)) };
                    let there: i64 = query_scalar(sql::COUNT_POLICY_VERSIONS).bind(id).fetch_one(&mut *transaction).await?;
                    if there >= $crate::meta::both::rows(most) {
                        return Ok(Err(ErrorKind::LimitExceeded));
                    }
                    query(sql::ADD_POLICY_VERSION)
                        .bind(id)
                        .bind(version)
                        .bind(document)
                        .bind(Time(created))
                        .execute(&mut *transaction)
                        .await?;
                    if default {
                        query(sql::SET_DEFAULT_POLICY_VERSION)
                            .bind(id)
                            .bind(version)
                            .bind(Time(created))
                            .execute(&mut *transaction)
                            .await?;
                        tell(&mut transaction, Topic::Policy, id).await?;
                    }
                    transaction.commit().await.map(|()| Ok(u32::try_from(version).unwrap_or(u32::MAX)))
                })
                .await
                .map_err(failed(OPERATION))?;
                outcome.map_err(|kind| Error::new(kind, OPERATION))
            }

            async fn policy_versions(&self, id: &str) -> Result<Vec<PolicyVersionRecord>> {
                self.page("list policy versions", sql::POLICY_VERSIONS, &[id], None).await
            }

            async fn set_default_policy_version(&self, id: &str, version: u32, updated: i64) -> Result<bool> {
                let statement =
                    || query(sql::SET_DEFAULT_POLICY_VERSION).bind(id.to_owned()).bind(i64::from(version)).bind(Time(updated));
                self.change("set default policy version", ErrorKind::NoSuchEntity, Topic::Policy, id, statement).await
            }

            async fn delete_policy_version(&self, id: &str, version: u32) -> Result<bool> {
                const OPERATION: &str = "delete policy version";
                let outcome = patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let policy: Option<PolicyRecord> = query_as(sql::POLICY).bind(id).fetch_optional(&mut *transaction).await?;
                    if policy.is_some_and(|policy| policy.default_version == version) {
                        return Ok(Err(ErrorKind::DeleteConflict));
                    }
                    let deleted =
                        query(sql::DELETE_POLICY_VERSION).bind(id).bind(i64::from(version)).execute(&mut *transaction).await?;
                    transaction.commit().await.map(|()| Ok(deleted.rows_affected() > 0))
                })
                .await
                .map_err(failed(OPERATION))?;
                outcome.map_err(|kind| Error::new(kind, OPERATION))
            }

            async fn attach_policy(&self, entity: &str, policy: &PolicyRef) -> Result<()> {
                const OPERATION: &str = "attach policy";
                let statement =
                    || query(sql::ATTACH_POLICY).bind(entity.to_owned()).bind(policy.arn.clone()).bind(policy.policy.clone());
                let attached = self.change(OPERATION, ErrorKind::NoSuchEntity, Topic::Entity, entity, statement).await?;
                // Not attached now: either it was, or there is nobody to attach it to.
                let missing = !attached && self.entity(entity).await?.is_none();
                refuse(OPERATION, missing.then_some(ErrorKind::NoSuchEntity), ())
            }

            async fn detach_policy(&self, entity: &str, arn: &str) -> Result<bool> {
                let statement = || query(sql::DETACH_POLICY).bind(entity.to_owned()).bind(arn.to_owned());
                self.change("detach policy", ErrorKind::NoSuchEntity, Topic::Entity, entity, statement).await
            }

            async fn attached_policies(&self, entity: &str) -> Result<Vec<PolicyRef>> {
                self.page("list attached policies", sql::ATTACHED_POLICIES, &[entity], None).await
            }

            async fn policy_users(
                &self,
                account: &str,
                arn: &str,
                after: &str,
                limit: usize,
            ) -> Result<Vec<(EntityRecord, PolicyUse)>> {
                let users = self.page("list users of policy", sql::POLICY_USERS, &[account, arn, after], Some(limit)).await?;
                Ok(users.into_iter().map(|rows::PolicyUser(entity, usage)| (entity, usage)).collect())
            }

            async fn applied_policies(&self, entity: &str) -> Result<Vec<AppliedPolicy>> {
                let mut applied: Vec<AppliedPolicy> = self.page("read policies", sql::APPLIED_POLICIES, &[entity], None).await?;
                applied.sort_by(|a, b| (&a.holder, &a.source).cmp(&(&b.holder, &b.source)));
                Ok(applied)
            }

            async fn sealed_secrets(&self, after: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>> {
                self.page("read sealed secrets", sql::SEALED_SECRETS, &[after], Some(limit)).await
            }

            async fn reseal(&self, access_key: &str, from: &[u8], to: &[u8]) -> Result<bool> {
                for statement in [sql::RESEAL_KEY, sql::RESEAL_SESSION] {
                    let resealed = patiently(|| query(statement).bind(access_key).bind(from).bind(to).execute(self.writing()));
                    if resealed.await.map_err(failed("reseal secret"))?.rows_affected() > 0 {
                        return Ok(true);
                    }
                }
                Ok(false)
            }

            async fn last_change(&self) -> Result<i64> {
                let last: Option<i64> = patiently(|| query_scalar(sql::LAST_CHANGE).fetch_one(self.reading()))
                    .await
                    .map_err(failed("read last change"))?;
                Ok(last.unwrap_or_default())
            }

            async fn changes(&self, after: i64, limit: usize) -> Result<Vec<ChangeRecord>> {
                patiently(|| query_as(sql::CHANGES).bind(after).bind($crate::meta::both::rows(limit)).fetch_all(self.reading()))
                    .await
                    .map_err(failed("read changes"))
            }

            async fn changed(&self, at_most: std::time::Duration) {
                self.wait_for_change(at_most).await;
            }

            async fn forget_ended(&self, ended_before: i64) -> Result<u64> {
                let kept = i64::try_from(CHANGES_KEPT_SECS).unwrap_or(i64::MAX).saturating_mul(1000);
                let old = unix_millis().saturating_sub(kept);
                let mut forgotten = 0;
                for (statement, before) in
                    [(sql::FORGET_SESSIONS, ended_before), (sql::FORGET_REVOCATIONS, ended_before), (sql::FORGET_CHANGES, old)]
                {
                    let done = patiently(|| query(statement).bind(Time(before)).execute(self.writing())).await;
                    forgotten += done.map_err(failed("forget what has ended"))?.rows_affected();
                }
                Ok(forgotten)
            }
        }
    };
}
pub(crate) use identity_store;
