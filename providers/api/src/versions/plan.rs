//! What a write has to do with what lies at the key: one table for all providers.

use super::{Slot, Version, VersionId};
use crate::Result;

/// How a bucket treats what is replaced or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// It goes, older versions stay as they are, and what is written has no name.
    #[default]
    Off,
    /// It is kept, and what is written gets a name.
    Enabled,
    /// What has a name is kept; what is written is the null version, and replaces the one before.
    Suspended,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where what is written belongs: its name as an object, its place as a marker.
    pub new: Slot,
    /// Where the current object goes; `None` when it is replaced for good, or there is none.
    pub keep: Option<Slot>,
    /// Whether null versions among the older ones end with this write.
    pub ends_null: bool,
}

impl Plan {
    /// A plan for a key with this current object, and `older`, the newest of its older versions and markers: what is written must be
    /// newer than both. A current object with a name is newer than all that is older, so that `older` may be left out beside it.
    /// `wanted` is a name that was given already; it is kept if it is the newest.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) without random numbers.
    pub fn new(
        versioning: Versioning,
        current: Option<VersionId>,
        older: Option<Version>,
        wanted: Option<Version>,
        marker: bool,
    ) -> Result<Self> {
        let named = current.and_then(|current| current.name().copied());
        let newest = named.into_iter().chain(older).min();
        let order = match wanted {
            Some(wanted) if newest.is_none_or(|newest| wanted < newest) => wanted,
            _ => Version::after(newest.as_ref())?,
        };
        let null = versioning != Versioning::Enabled;
        let keep = match (versioning, current) {
            (Versioning::Off, _) | (_, None) | (Versioning::Suspended, Some(VersionId::Null | VersionId::Foreign(_))) => None,
            (_, Some(VersionId::Named(order))) => Some(Slot { order, null: false, marker: false }),
            // A name that tells no order is none here: who keeps versions by a plan gives all names.
            (Versioning::Enabled, Some(VersionId::Null | VersionId::Foreign(_))) => {
                Some(Slot { order: order.just_before(), null: true, marker: false })
            }
        };
        // There is one null version at most. A current one hides what is left of others.
        let ends_null = match versioning {
            Versioning::Off => false,
            Versioning::Suspended => true,
            Versioning::Enabled => keep.is_some_and(|slot| slot.null),
        };
        Ok(Self { new: Slot { order, null, marker }, keep, ends_null })
    }

    /// The name of what is written; `None` for a null version.
    #[must_use]
    pub fn name(&self) -> Option<Version> {
        (!self.new.null).then_some(self.new.order)
    }

    /// Which of the older versions, as they are now or were before, are to be removed.
    pub fn ends(&self, slots: &[Slot]) -> impl Iterator<Item = Slot> {
        let (ends, spared) = (self.ends_null, [Some(self.new), self.keep]);
        slots
            .iter()
            .copied()
            .filter(move |slot| ends && slot.null && !spared.contains(&Some(*slot)))
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// The null version among older ones: the newest, where a call that was cut short has left several.
#[must_use]
pub fn first_null(slots: &[Slot]) -> Option<Slot> {
    slots.iter().copied().find(|slot| slot.null)
}

/// Those of the older versions, sorted, that are not to be seen, because a call that was cut short has left them: the current object
/// once more, and null versions behind the first.
pub fn hidden_slots(current: Option<VersionId>, slots: &[Slot]) -> impl Iterator<Item = Slot> {
    let first = if current == Some(VersionId::Null) { None } else { first_null(slots) };
    let hidden = move |slot: &Slot| if slot.null { Some(*slot) != first } else { current == Some(slot.id()) };
    slots.iter().copied().filter(hidden).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn plan(versioning: Versioning, current: Option<VersionId>) -> Plan {
        Plan::new(versioning, current, None, None, false).unwrap()
    }

    #[test]
    fn what_is_replaced_is_kept_or_goes() {
        let old = Version::after(None).unwrap();
        let named = Some(VersionId::Named(old));
        let kept = |plan: Plan| plan.keep.map(|slot| slot.id());
        assert_eq!(kept(plan(Versioning::Off, named)), None);
        assert_eq!(kept(plan(Versioning::Enabled, None)), None);
        assert_eq!(kept(plan(Versioning::Enabled, named)), named);
        assert_eq!(kept(plan(Versioning::Enabled, Some(VersionId::Null))), Some(VersionId::Null));
        assert_eq!(kept(plan(Versioning::Suspended, named)), named);
        assert_eq!(kept(plan(Versioning::Suspended, Some(VersionId::Null))), None);
        let plan = plan(Versioning::Enabled, Some(VersionId::Null));
        assert!(plan.new.order < plan.keep.unwrap().order, "the new one is the newer one");
    }

    #[test]
    fn a_name_that_is_too_old_is_replaced() {
        let early = Version::after(None).unwrap();
        let current = Version::after(Some(&early)).unwrap();
        let late = Version::after(Some(&current)).unwrap();
        for (at_the_key, older) in
            [(Some(VersionId::Named(current)), None), (None, Some(current)), (Some(VersionId::Null), Some(current))]
        {
            let order = |wanted| Plan::new(Versioning::Enabled, at_the_key, older, Some(wanted), false).unwrap().new.order;
            assert_eq!(order(late), late);
            assert!(order(early) < current && order(current) < current);
        }
    }

    #[test]
    fn there_is_one_null_version() {
        let slots: Vec<_> = [(true, true), (false, false), (true, false)]
            .iter()
            .scan(None, |last, &(null, marker)| {
                let order = Version::after(last.as_ref()).unwrap();
                *last = Some(order);
                Some(Slot { order, null, marker })
            })
            .collect();
        let slots: Vec<_> = slots.into_iter().rev().collect();
        assert_eq!(plan(Versioning::Suspended, None).ends(&slots).count(), 2);
        assert_eq!(plan(Versioning::Enabled, None).ends(&slots).count(), 0);
        assert_eq!(plan(Versioning::Enabled, Some(VersionId::Null)).ends(&slots).count(), 2);
        assert_eq!(hidden_slots(None, &slots).collect::<Vec<_>>(), [slots[2]]);
        assert_eq!(hidden_slots(Some(VersionId::Null), &slots).count(), 2);
        assert_eq!(hidden_slots(Some(slots[1].id()), &slots).collect::<Vec<_>>(), [slots[1], slots[2]]);
    }
}
