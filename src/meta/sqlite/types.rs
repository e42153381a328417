//! How values of the records are written in SQLite.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{Sqlite, SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Type};

pub(super) type Db = Sqlite;
pub(super) type Row = sqlx::sqlite::SqliteRow;

/// Milliseconds since the Unix epoch, an integer here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) i64);

impl Type<Sqlite> for Time {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(info: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(info)
    }
}

impl Encode<'_, Sqlite> for Time {
    fn encode_by_ref(&self, arguments: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0, arguments)
    }
}

impl<'r> Decode<'r, Sqlite> for Time {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Sqlite>>::decode(value).map(Self)
    }
}

/// A text as the database can hold it: as it is.
pub(super) fn outward(text: String) -> String {
    text
}

/// What [`outward`] wrote, as it was.
pub(super) fn inward(text: String) -> String {
    text
}
