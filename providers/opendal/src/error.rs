//! OpenDAL's errors as ours.

use opendal::ErrorKind as Theirs;
use sluice_provider::{Error, ErrorKind};

/// What an error means here.
pub(crate) fn kind_of(kind: Theirs) -> ErrorKind {
    match kind {
        Theirs::NotFound => ErrorKind::NotFound,
        Theirs::PermissionDenied => ErrorKind::PermissionDenied,
        Theirs::ConditionNotMatch => ErrorKind::PreconditionFailed,
        Theirs::Unsupported | Theirs::ConfigInvalid => ErrorKind::Unsupported,
        Theirs::RateLimited => ErrorKind::Busy,
        // A directory is where an object should be, or an object where a directory should be.
        Theirs::IsADirectory | Theirs::NotADirectory => ErrorKind::InvalidKey,
        // Nobody is told that something should not have been there, except by a condition, which has a kind of its own. A range was
        // resolved against a size that is no more.
        Theirs::AlreadyExists | Theirs::Conflict | Theirs::RangeNotSatisfied => ErrorKind::Conflict,
        // We never copy or rename a path onto itself.
        Theirs::IsSameFile => ErrorKind::Internal,
        Theirs::Unexpected => ErrorKind::Unavailable,
        // A kind of a later version.
        _ => ErrorKind::Unavailable,
    }
}

/// An error of a call. The story of OpenDAL's comes along: it names the service, the path and the answer, and never credentials.
pub(crate) fn failed(operation: &'static str, error: &opendal::Error) -> Error {
    let kind = match error.kind() {
        Theirs::Unexpected if error.message() == crate::transport::SILENT => ErrorKind::TimedOut,
        kind => kind_of(kind),
    };
    Error::new(kind, operation).caused_by(story(error))
}

/// An error and what caused it: many a library tells the cause only to those who ask.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// In one line, and not longer than a line should be: the page of an HTTP server may be in it.
fn story(error: &opendal::Error) -> String {
    const MOST: usize = 600;
    let mut text: String = with_causes(error).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_meaning() {
        for (theirs, ours) in [
            (Theirs::Unexpected, ErrorKind::Unavailable),
            (Theirs::Unsupported, ErrorKind::Unsupported),
            (Theirs::ConfigInvalid, ErrorKind::Unsupported),
            (Theirs::NotFound, ErrorKind::NotFound),
            (Theirs::PermissionDenied, ErrorKind::PermissionDenied),
            (Theirs::IsADirectory, ErrorKind::InvalidKey),
            (Theirs::NotADirectory, ErrorKind::InvalidKey),
            (Theirs::AlreadyExists, ErrorKind::Conflict),
            (Theirs::RateLimited, ErrorKind::Busy),
            (Theirs::IsSameFile, ErrorKind::Internal),
            (Theirs::ConditionNotMatch, ErrorKind::PreconditionFailed),
            (Theirs::RangeNotSatisfied, ErrorKind::Conflict),
            (Theirs::Conflict, ErrorKind::Conflict),
        ] {
            let error = failed("test", &opendal::Error::new(theirs, "a\n  story"));
            assert_eq!(*error.kind(), ours, "{theirs}");
            assert!(error.to_string().contains("a story"), "{error}");
        }
        let long = opendal::Error::new(Theirs::Unexpected, "é".repeat(5000));
        assert!(failed("test", &long).to_string().len() < 800);
    }
}
