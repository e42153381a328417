//! Object Lock: what keeps a version from being removed
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_provider::Attributes;

use super::attribute;

/// How firm a retention is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those who may bypass it can shorten it and remove what it protects.
    Governance,
    /// Nobody can.
    Compliance,
}

impl Mode {
    /// As S3 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    /// Reads what S3 writes.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.name() == name)
    }
}

/// A version is not to be removed before a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How firmly.
    pub mode: Mode,
    /// Until when; whole milliseconds.
    pub until: SystemTime,
}

impl Retention {
    /// The retention of a version, over or not.
    #[must_use]
    pub fn of(attributes: &Attributes) -> Option<Self> {
        let mode = Mode::from_name(attributes.get(attribute::LOCK_MODE)?)?;
        // A date that cannot be read never comes.
        let millis = attributes.get(attribute::LOCK_UNTIL)?.parse().unwrap_or(u64::MAX >> 12);
        Some(Self { mode, until: UNIX_EPOCH + Duration::from_millis(millis) })
    }

    /// The attributes that hold it.
    #[must_use]
    pub fn attributes(&self) -> [(&'static str, String); 2] {
        let until = self.until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        [(attribute::LOCK_MODE, self.mode.name().to_owned()), (attribute::LOCK_UNTIL, until.to_string())]
    }

    /// Whether it is in force now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.until > SystemTime::now()
    }

    /// Whether it may be replaced by another one (or by none): it may be extended in its mode, and what is over or bypassed is no
    /// obstacle.
    #[must_use]
    pub fn may_become(&self, next: Option<&Self>, bypass: bool) -> bool {
        if !self.holds() || (self.mode == Mode::Governance && bypass) {
            return true;
        }
        next.is_some_and(|next| next.mode == self.mode && next.until >= self.until)
    }
}

/// Whether a legal hold is on a version.
#[must_use]
pub fn is_held(attributes: &Attributes) -> bool {
    attributes.get(attribute::LOCK_HOLD) == Some("ON")
}

/// Whether a version with these attributes may be removed now, by somebody who may (`bypass`) override governance.
#[must_use]
pub fn may_remove(attributes: &Attributes, bypass: bool) -> bool {
    !is_held(attributes) && Retention::of(attributes).is_none_or(|retention| retention.may_become(None, bypass))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: Mode, days: i64) -> Retention {
        let day = Duration::from_secs(24 * 3600);
        let until = match u32::try_from(days) {
            Ok(days) => SystemTime::now() + day * days,
            Err(_) => SystemTime::now() - day,
        };
        Retention { mode, until }
    }

    fn locked(retention: Option<Retention>, hold: Option<&str>) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.extend(retention.iter().flat_map(Retention::attributes));
        attributes.extend(hold.map(|hold| (attribute::LOCK_HOLD, hold)));
        attributes
    }

    #[test]
    fn what_is_locked_stays() {
        use Mode::{Compliance, Governance};
        let cases = [
            (None, None, true, true),
            (None, Some("OFF"), true, true),
            (None, Some("ON"), false, false),
            (Some(retention(Governance, 1)), None, false, true),
            (Some(retention(Compliance, 1)), None, false, false),
            (Some(retention(Governance, -1)), None, true, true),
            (Some(retention(Compliance, -1)), None, true, true),
            (Some(retention(Compliance, -1)), Some("ON"), false, false),
            (Some(retention(Governance, 1)), Some("ON"), false, false),
        ];
        for (retention, hold, plain, bypassed) in cases {
            let attributes = locked(retention, hold);
            assert_eq!((may_remove(&attributes, false), may_remove(&attributes, true)), (plain, bypassed), "{attributes:?}");
        }
        let mut unreadable = locked(Some(retention(Compliance, -1)), None);
        unreadable.set(attribute::LOCK_UNTIL, "soon");
        assert!(!may_remove(&unreadable, true));
    }

    #[test]
    fn retention_can_grow_and_only_governance_can_shrink() {
        use Mode::{Compliance, Governance};
        let (short, long) = (retention(Governance, 1), retention(Governance, 9));
        assert!(short.may_become(Some(&long), false) && !long.may_become(Some(&short), false));
        assert!(long.may_become(Some(&short), true) && long.may_become(None, true) && !long.may_become(None, false));
        let firm = retention(Compliance, 5);
        assert!(firm.may_become(Some(&retention(Compliance, 6)), false));
        assert!(!firm.may_become(Some(&retention(Compliance, 4)), true));
        assert!(!firm.may_become(Some(&retention(Governance, 9)), true) && !firm.may_become(None, true));
        assert!(!short.may_become(Some(&firm), false) && short.may_become(Some(&firm), true));
        assert!(retention(Compliance, -1).may_become(None, false));
    }
}
