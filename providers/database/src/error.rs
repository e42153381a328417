//! What the databases answer, in the words of the contract.

use sluice_provider::{Error, ErrorKind};

/// `SQLITE_BUSY`, `SQLITE_LOCKED` and `SQLITE_FULL` (<https://www.sqlite.org/rescode.html>), primary codes.
const SQLITE: [(i32, ErrorKind); 3] = [(5, ErrorKind::Busy), (6, ErrorKind::Busy), (13, ErrorKind::NoSpace)];
/// Serialization failure, deadlock, disk full, too many connections (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const POSTGRES: [(&str, ErrorKind); 4] =
    [("40001", ErrorKind::Conflict), ("40P01", ErrorKind::Conflict), ("53100", ErrorKind::NoSpace), ("53300", ErrorKind::Busy)];

/// Names a failure.
pub(crate) fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
        let named = code.as_deref().and_then(|code| {
            let number = code.parse::<i32>().ok().map(|code| code & 0xff);
            let sqlite = SQLITE.iter().find(|(known, _)| code.len() < 5 && Some(*known) == number).map(|(_, kind)| *kind);
            sqlite.or_else(|| POSTGRES.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind))
        });
        let kind = match (&error, named) {
            (_, Some(kind)) => kind,
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, operation).caused_by(error)
    }
}

pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
