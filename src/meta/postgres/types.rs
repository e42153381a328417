//! How values of the records are written in PostgreSQL.
//!
//! A text cannot hold the character NUL there, an S3 key can. So texts that come from keys are escaped, in a way that keeps their order
//! and what is a prefix of what: U+0000 becomes U+0001 U+0001, and U+0001 becomes U+0001 U+0002.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef, Postgres};
use sqlx::types::time::OffsetDateTime;
use sqlx::{Decode, Encode, Type};

pub(super) type Db = Postgres;
pub(super) type Row = sqlx::postgres::PgRow;

/// Milliseconds since the Unix epoch, TIMESTAMPTZ here. What is beyond the years that it can hold becomes the last or first of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) i64);

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        <OffsetDateTime as Type<Postgres>>::compatible(info)
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        const FIRST: i64 = -62_135_596_800_000; // 0001-01-01
        const LAST: i64 = 253_402_300_799_000; // 9999-12-31T23:59:59
        let millis = i128::from(self.0.clamp(FIRST, LAST));
        let time = OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000)?;
        Encode::<Postgres>::encode_by_ref(&time, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let time = <OffsetDateTime as Decode<Postgres>>::decode(value)?;
        Ok(Self(i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000))?))
    }
}

/// A text that may hold any character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl Type<Postgres> for Text<'_> {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Text<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&&*escaped(self.0), buffer)
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', '\u{1}']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.push_str("\u{1}\u{1}"),
            '\u{1}' => out.push_str("\u{1}\u{2}"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What [`Text`] wrote, as it was.
pub(super) fn unescaped(text: String) -> String {
    if !text.contains('\u{1}') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1}' => out.push(if chars.next() == Some('\u{1}') { '\0' } else { '\u{1}' }),
            c => out.push(c),
        }
    }
    out
}

/// A text as the database can hold it.
pub(super) fn outward(text: String) -> String {
    escaped(&text).into_owned()
}

pub(super) use unescaped as inward;

/// A map for a JSONB, which cannot hold NUL either.
pub(super) fn escaped_map(map: &BTreeMap<String, String>) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    map.iter().map(|(name, value)| (escaped(name), escaped(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "[\u{0}\u{1}\u{2}a\u{10ffff}]{0,4}";

    proptest! {
        #[test]
        fn escaping_keeps_text_order_and_prefixes(a in TEXT, b in TEXT) {
            let (x, y) = (escaped(&a).into_owned(), escaped(&b).into_owned());
            prop_assert!(!x.contains('\0'));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.starts_with(&y), a.starts_with(&b));
            prop_assert_eq!(unescaped(x), a);
        }
    }
}
