//! The steps that the statements are combined of, over any database; see [`super::store`] for what it brings.

/// `identity_steps!(Store, types, transaction)`.
macro_rules! identity_steps {
    ($store:ty, $types:ident, $transaction:ty) => {
        /// Tells the other gateways, when and if the transaction is committed.
        async fn tell(transaction: &mut $transaction, topic: Topic, subject: &str) -> sqlx::Result<()> {
            let told = query(sql::TELL).bind(topic.as_str()).bind(subject).bind(Time(unix_millis()));
            told.execute(&mut **transaction).await.map(drop)
        }

        async fn exists(
            transaction: &mut $transaction,
            statement: &'static str,
            first: &str,
            second: &str,
        ) -> sqlx::Result<bool> {
            query_scalar(statement).bind(first).bind(second).fetch_one(&mut **transaction).await
        }

        /// Adds a key; answers why it could not.
        async fn add_key(transaction: &mut $transaction, key: &AccessKeyRecord) -> sqlx::Result<Option<ErrorKind>> {
            let revoked = Revoked::Key(key.access_key.clone()).to_text();
            let added = query(sql::CREATE_ACCESS_KEY)
                .bind(&key.access_key)
                .bind(&key.sealed_secret)
                .bind(&key.account)
                .bind(&key.user)
                .bind(key.active)
                .bind(key.expires.map(Time))
                .bind(key.service.as_ref().map(|service| Json(service.to_fields())))
                .bind(Time(key.created))
                .bind(key.last_used.map(Time))
                .bind(&revoked)
                .execute(&mut **transaction)
                .await?;
            if added.rows_affected() > 0 {
                return Ok(None);
            }
            let taken = exists(transaction, sql::ACCESS_KEY_TAKEN, &key.access_key, &revoked).await?;
            Ok(Some(if taken { ErrorKind::EntityExists } else { ErrorKind::NoSuchEntity }))
        }

        /// Adds a session; answers why it could not.
        async fn add_session(transaction: &mut $transaction, session: &SessionRecord) -> sqlx::Result<Option<ErrorKind>> {
            let added = query(sql::CREATE_SESSION)
                .bind(&session.access_key)
                .bind(&session.sealed_secret)
                .bind(&session.token_hash[..])
                .bind(&session.account)
                .bind(&session.entity)
                .bind(session.kind.as_str())
                .bind(&session.name)
                .bind(&session.policy)
                .bind(Json(&session.policy_arns))
                .bind(Json(&session.tags))
                .bind(Json(&session.context))
                .bind(Time(session.issued))
                .bind(Time(session.expires))
                .execute(&mut **transaction)
                .await?;
            if added.rows_affected() > 0 {
                return Ok(None);
            }
            let taken: bool = query_scalar(sql::SESSION_TAKEN)
                .bind(&session.access_key)
                .bind(&session.token_hash[..])
                .fetch_one(&mut **transaction)
                .await?;
            Ok(Some(if taken { ErrorKind::EntityExists } else { ErrorKind::NoSuchEntity }))
        }

        /// Everything a revocation of this credential could be called.
        fn names(key: &str, token: Option<&[u8; 32]>, entity: Option<&str>, account: &str) -> [String; 5] {
            [
                Revoked::Key(key.to_owned()).to_text(),
                Revoked::Presigned(key.to_owned()).to_text(),
                Revoked::Account(account.to_owned()).to_text(),
                token.map(|hash| Revoked::Token(*hash).to_text()).unwrap_or_default(),
                entity.map(|entity| Revoked::Sessions(entity.to_owned()).to_text()).unwrap_or_default(),
            ]
        }

        fn refuse<T>(operation: &'static str, refusal: Option<ErrorKind>, value: T) -> Result<T> {
            refusal.map_or(Ok(value), |kind| Err(Error::new(kind, operation)))
        }

        fn folded(name: &str) -> String {
            name.to_ascii_lowercase()
        }

        impl $store {
            /// One statement that changes something, and tells of it when it did.
            async fn change<'a, F>(
                &self,
                operation: &'static str,
                missing: ErrorKind,
                topic: Topic,
                subject: &str,
                statement: F,
            ) -> Result<bool>
            where
                F: Fn() -> sqlx::query::Query<'a, $types::Db, <$types::Db as sqlx::Database>::Arguments> + Send + Sync,
            {
                patiently(|| async {
                    let mut transaction = self.begin_change().await?;
                    let done = statement().execute(&mut *transaction).await?.rows_affected() > 0;
                    if done {
                        tell(&mut transaction, topic, subject).await?;
                        transaction.commit().await?;
                    }
                    Ok(done)
                })
                .await
                .map_err(failed_or(operation, missing))
            }

            async fn one<'a, T>(
                &self,
                operation: &'static str,
                statement: &'static str,
                values: &'a [&'a str],
            ) -> Result<Option<T>>
            where
                T: for<'r> sqlx::FromRow<'r, $types::Row> + Send + Unpin + 'a,
            {
                patiently(|| {
                    let mut read = query_as(statement);
                    for value in values {
                        read = read.bind(*value);
                    }
                    read.fetch_optional(self.reading())
                })
                .await
                .map_err(failed(operation))
            }

            /// A page; the number of rows is the last parameter.
            async fn page<'a, T>(
                &self,
                operation: &'static str,
                statement: &'static str,
                values: &'a [&'a str],
                limit: Option<usize>,
            ) -> Result<Vec<T>>
            where
                T: for<'r> sqlx::FromRow<'r, $types::Row> + Send + Unpin + 'a,
            {
                patiently(|| {
                    let mut read = query_as(statement);
                    for value in values {
                        read = read.bind(*value);
                    }
                    if let Some(limit) = limit {
                        read = read.bind($crate::meta::both::rows(limit));
                    }
                    read.fetch_all(self.reading())
                })
                .await
                .map_err(failed(operation))
            }
        }
    };
}
pub(crate) use identity_steps;
