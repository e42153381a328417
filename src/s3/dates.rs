//! Dates: HTTP's IMF-fixdate (RFC 9110 section 5.6.7) in headers, ISO 8601 in XML.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The first second of the year 10000, from where on the calendar has no dates.
const END: i64 = 253_402_300_800;

/// A time with its date. A file that somebody else made can have any time that its file system has; beyond the calendar it is the
/// calendar's first or last second.
fn calendar(time: SystemTime) -> OffsetDateTime {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX).min(END - 1),
        // Seconds begin before their fractions, also before 1970.
        Err(before) => {
            let before = before.duration();
            -i64::try_from(before.as_secs()).unwrap_or(i64::MAX) - i64::from(before.subsec_nanos() > 0)
        }
    };
    // The year 0 is as far back as four digits go.
    OffsetDateTime::from_unix_timestamp(seconds.max(-62_167_219_200)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A time as `Last-Modified` shows it.
pub(crate) fn http(time: SystemTime) -> String {
    let t = calendar(time);
    let mut text = String::with_capacity(32);
    text.push_str(DAYS[usize::from(t.weekday().number_days_from_monday())]);
    text.push_str(", ");
    two(&mut text, t.day());
    text.push(' ');
    text.push_str(MONTHS[usize::from(u8::from(t.month())) - 1]);
    text.push(' ');
    year(&mut text, t.year());
    text.push(' ');
    clock(&mut text, t);
    text.push_str(" GMT");
    text
}

/// A time as a header value.
pub(crate) fn http_header(time: SystemTime) -> Option<HeaderValue> {
    HeaderValue::from_str(&http(time)).ok()
}

/// Reads an IMF-fixdate. `None` for the obsolete forms too: AWS ignores them.
pub(crate) fn parse_http(text: &str) -> Option<SystemTime> {
    PrimitiveDateTime::parse(text.trim(), IMF_FIXDATE).ok().map(|t| t.assume_utc().into())
}

/// Reads what a client puts into XML: ISO 8601, or an HTTP date.
pub(crate) fn parse_any(text: &str) -> Option<SystemTime> {
    let iso = || OffsetDateTime::parse(text.trim(), &time::format_description::well_known::Rfc3339).ok().map(Into::into);
    iso().or_else(|| parse_http(text))
}

/// Reads the date of a signature (`20260101T000000Z`), in milliseconds since the epoch.
pub(crate) fn parse_basic(text: &str) -> Option<i64> {
    const BASIC: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
    PrimitiveDateTime::parse(text, BASIC).ok().map(|t| t.assume_utc().unix_timestamp() * 1000)
}

/// A time as XML shows it, to the second as S3 keeps it.
pub(crate) fn iso(time: SystemTime) -> String {
    let t = calendar(time);
    let mut text = String::with_capacity(32);
    year(&mut text, t.year());
    text.push('-');
    two(&mut text, t.month().into());
    text.push('-');
    two(&mut text, t.day());
    text.push('T');
    clock(&mut text, t);
    text.push_str(".000Z");
    text
}

// Digit by digit: a list page has a thousand dates, and the formatter takes ten times as long.

fn two(text: &mut String, number: u8) {
    text.push(char::from(b'0' + number / 10 % 10));
    text.push(char::from(b'0' + number % 10));
}

fn year(text: &mut String, year: i32) {
    match u16::try_from(year) {
        Ok(year @ 0..=9999) => {
            two(text, (year / 100) as u8);
            two(text, (year % 100) as u8);
        }
        _ => text.push_str(&format!("{year:04}")),
    }
}

fn clock(text: &mut String, t: OffsetDateTime) {
    two(text, t.hour());
    text.push(':');
    two(text, t.minute());
    text.push(':');
    two(text, t.second());
}

/// A moment that the metadata store keeps, in milliseconds since the epoch.
pub(crate) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn dates_go_round() {
        let t = from_millis(784_111_777_999);
        assert_eq!(http(t), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(iso(t), "1994-11-06T08:49:37.000Z");
        assert_eq!(iso(from_millis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(http(from_millis(253_402_300_799_000)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(parse_http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(from_millis(784_111_777_000)));
        assert_eq!(parse_any("1994-11-06T08:49:37Z"), Some(from_millis(784_111_777_000)));
    }

    #[test]
    fn times_beyond_the_calendar_are_no_panic() {
        for seconds in [END.unsigned_abs() - 1, END.unsigned_abs(), 1 << 40, i64::MAX.unsigned_abs()] {
            let t = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!((iso(t).as_str(), http(t).as_str()), ("9999-12-31T23:59:59.000Z", "Fri, 31 Dec 9999 23:59:59 GMT"));
        }
        let t = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 60);
        assert_eq!(iso(t), "0000-01-01T00:00:00.000Z");
        assert_eq!(iso(SystemTime::UNIX_EPOCH - Duration::from_millis(1)), "1969-12-31T23:59:59.000Z");
    }

    #[test]
    fn obsolete_and_bad_dates_are_no_dates() {
        for bad in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "yesterday", ""] {
            assert_eq!(parse_http(bad), None, "{bad}");
        }
    }
}
