//! The names behind the ids that an answer shows.

use std::collections::BTreeMap;

use crate::s3::Parts;
use crate::s3::error::Result;
use crate::tokens::Identity;
use crate::tokens::acl::ANONYMOUS;

/// Display names by canonical id.
#[derive(Clone, Debug, Default)]
pub(crate) struct People(BTreeMap<String, Option<String>>);

impl People {
    /// Looks up these ids; of the sender nothing needs to be looked up.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub(crate) async fn find<'i>(parts: &Parts, sender: &Identity, ids: impl Iterator<Item = &'i str> + Send) -> Result<Self> {
        let mut people = Self::default();
        for id in ids {
            if people.0.contains_key(id) {
                continue;
            }
            let name = match id {
                ANONYMOUS => None,
                id if id == sender.id => Some(sender.name.clone()),
                id => parts.tokens.identity_of(id).await?.map(|identity| identity.name.clone()),
            };
            people.0.insert(id.to_owned(), name);
        }
        Ok(people)
    }

    /// An id with its name, as `<Owner>` and `<Grantee>` show it.
    pub(crate) fn person<'p>(&'p self, id: &'p str) -> (&'p str, Option<&'p str>) {
        (id, self.0.get(id).and_then(Option::as_deref))
    }
}
