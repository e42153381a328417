//! Rows to records, for any database: columns by position, in the order in which [`super::sql`] names them.

/// `identity_rows!(Row, types)`: `types` is the module that holds the database's `Time`.
macro_rules! identity_rows {
    ($row:ty, $types:ident) => {
        use std::collections::BTreeMap;

        use sqlx::types::Json;
        use sqlx::{FromRow, Row as _};

        use $crate::meta::identities::*;

        /// A key with its account and its user, and a revocation of one of them.
        pub(super) struct LastingCredential(
            pub(super) AccessKeyRecord,
            pub(super) AccountRecord,
            pub(super) Option<EntityRecord>,
            pub(super) Option<RevocationRecord>,
        );
        /// A session with its account and its entity.
        pub(super) struct TemporaryCredential(
            pub(super) SessionRecord,
            pub(super) AccountRecord,
            pub(super) Option<EntityRecord>,
        );
        /// An entity that uses a policy.
        pub(super) struct PolicyUser(pub(super) EntityRecord, pub(super) PolicyUse);

        fn time(row: &$row, column: usize) -> sqlx::Result<i64> {
            row.try_get::<$types::Time, _>(column).map(|time| time.0)
        }

        fn time_or_none(row: &$row, column: usize) -> sqlx::Result<Option<i64>> {
            row.try_get::<Option<$types::Time>, _>(column).map(|time| time.map(|time| time.0))
        }

        fn json<T: serde::de::DeserializeOwned + 'static>(row: &$row, column: usize) -> sqlx::Result<T> {
            row.try_get::<Json<T>, _>(column).map(|Json(value)| value)
        }

        /// A word that stands for a value. One that this version does not know is an error, never a guess.
        fn word<T>(row: &$row, column: usize, parse: impl Fn(&str) -> Option<T>) -> sqlx::Result<T> {
            let text: String = row.try_get(column)?;
            parse(&text).ok_or_else(|| sqlx::Error::ColumnDecode { index: column.to_string(), source: "an unknown word".into() })
        }

        fn number(row: &$row, column: usize) -> sqlx::Result<u32> {
            let number: i64 = row.try_get(column)?;
            u32::try_from(number)
                .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_string(), source: Box::new(error) })
        }

        fn account(row: &$row, first: usize) -> sqlx::Result<AccountRecord> {
            Ok(AccountRecord {
                id: row.try_get(first)?,
                number: row.try_get(first + 1)?,
                name: row.try_get(first + 2)?,
                root: row.try_get(first + 3)?,
                active: row.try_get(first + 4)?,
                created: time(row, first + 5)?,
            })
        }

        fn entity(row: &$row, first: usize) -> sqlx::Result<EntityRecord> {
            let boundary: Option<String> = row.try_get(first + 8)?;
            let policy: Option<String> = row.try_get(first + 9)?;
            Ok(EntityRecord {
                id: row.try_get(first)?,
                account: row.try_get(first + 1)?,
                kind: word(row, first + 2, EntityKind::parse)?,
                path: row.try_get(first + 3)?,
                name: row.try_get(first + 4)?,
                description: row.try_get(first + 5)?,
                trust: row.try_get(first + 6)?,
                max_session_secs: number(row, first + 7)?,
                boundary: boundary.map(|arn| PolicyRef { arn, policy }),
                tags: json(row, first + 10)?,
                created: time(row, first + 11)?,
            })
        }

        fn entity_or_none(row: &$row, first: usize) -> sqlx::Result<Option<EntityRecord>> {
            let id: Option<String> = row.try_get(first)?;
            id.map(|_| entity(row, first)).transpose()
        }

        fn revocation(row: &$row, first: usize) -> sqlx::Result<RevocationRecord> {
            Ok(RevocationRecord {
                what: word(row, first, Revoked::parse)?,
                before: time(row, first + 1)?,
                until: time_or_none(row, first + 2)?,
                reason: row.try_get(first + 3)?,
            })
        }

        fn revocation_or_none(row: &$row, first: usize) -> sqlx::Result<Option<RevocationRecord>> {
            let what: Option<String> = row.try_get(first)?;
            what.map(|_| revocation(row, first)).transpose()
        }

        impl FromRow<'_, $row> for AccountRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                account(row, 0)
            }
        }

        impl FromRow<'_, $row> for EntityRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                entity(row, 0)
            }
        }

        impl FromRow<'_, $row> for AccessKeyRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let service: Option<Json<BTreeMap<String, String>>> = row.try_get(6)?;
                Ok(Self {
                    access_key: row.try_get(0)?,
                    sealed_secret: row.try_get(1)?,
                    account: row.try_get(2)?,
                    user: row.try_get(3)?,
                    active: row.try_get(4)?,
                    expires: time_or_none(row, 5)?,
                    service: service.map(|Json(fields)| ServiceAccount::from_fields(fields)),
                    created: time(row, 7)?,
                    last_used: time_or_none(row, 8)?,
                })
            }
        }

        impl FromRow<'_, $row> for SessionRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let hash: Vec<u8> = row.try_get(2)?;
                let token_hash = <[u8; 32]>::try_from(hash.as_slice())
                    .map_err(|error| sqlx::Error::ColumnDecode { index: "2".to_owned(), source: Box::new(error) })?;
                Ok(Self {
                    access_key: row.try_get(0)?,
                    sealed_secret: row.try_get(1)?,
                    token_hash,
                    account: row.try_get(3)?,
                    entity: row.try_get(4)?,
                    kind: word(row, 5, SessionKind::parse)?,
                    name: row.try_get(6)?,
                    policy: row.try_get(7)?,
                    policy_arns: json(row, 8)?,
                    tags: json(row, 9)?,
                    context: json(row, 10)?,
                    issued: time(row, 11)?,
                    expires: time(row, 12)?,
                })
            }
        }

        impl FromRow<'_, $row> for LastingCredential {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let (account, entity) = (account(row, 9)?, entity_or_none(row, 15)?);
                Ok(Self(AccessKeyRecord::from_row(row)?, account, entity, revocation_or_none(row, 27)?))
            }
        }

        impl FromRow<'_, $row> for TemporaryCredential {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self(SessionRecord::from_row(row)?, account(row, 13)?, entity_or_none(row, 19)?))
            }
        }

        impl FromRow<'_, $row> for RevocationRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                revocation(row, 0)
            }
        }

        impl FromRow<'_, $row> for PolicyRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self {
                    id: row.try_get(0)?,
                    account: row.try_get(1)?,
                    path: row.try_get(2)?,
                    name: row.try_get(3)?,
                    description: row.try_get(4)?,
                    default_version: number(row, 5)?,
                    tags: json(row, 6)?,
                    created: time(row, 7)?,
                    updated: time(row, 8)?,
                })
            }
        }

        impl FromRow<'_, $row> for PolicyVersionRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self { version: number(row, 0)?, document: row.try_get(1)?, created: time(row, 2)? })
            }
        }

        impl FromRow<'_, $row> for PolicyRef {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self { arn: row.try_get(0)?, policy: row.try_get(1)? })
            }
        }

        impl FromRow<'_, $row> for PolicyUser {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let boundary = row.try_get::<i32, _>(12)? == 1;
                Ok(Self(entity(row, 0)?, if boundary { PolicyUse::Boundary } else { PolicyUse::Attached }))
            }
        }

        impl FromRow<'_, $row> for AppliedPolicy {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let place: i32 = row.try_get(1)?;
                let name: String = row.try_get(2)?;
                let source = if place == 0 { PolicySource::Inline(name) } else { PolicySource::Managed(name) };
                let usage = if place == 2 { PolicyUse::Boundary } else { PolicyUse::Attached };
                Ok(Self { holder: row.try_get(0)?, source, usage, document: row.try_get(3)? })
            }
        }

        impl FromRow<'_, $row> for ChangeRecord {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                let topic: String = row.try_get(1)?;
                Ok(Self { number: row.try_get(0)?, topic: Topic::parse(&topic), subject: row.try_get(2)? })
            }
        }
    };
}
pub(crate) use identity_rows;
