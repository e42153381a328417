//! Who changes a path, in this process. Whoever publishes an object holds its path alone and the directories above it together with
//! others, so that none of them becomes something else meanwhile. Whoever looks may ask whether anybody changed a path since.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// How many there are. Two paths may share one, which then wait for each other.
const STRIPES: usize = 1024;

pub(crate) struct Locks {
    /// Each counts how often it was held alone.
    stripes: Vec<Arc<RwLock<u64>>>,
    hash: RandomState,
}

/// What is held until it is dropped.
#[derive(Debug)]
pub(crate) enum Held {
    #[expect(dead_code, reason = "it is held")]
    Shared(OwnedRwLockReadGuard<u64>),
    #[expect(dead_code, reason = "it is held")]
    Alone(OwnedRwLockWriteGuard<u64>),
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Arc::default()).collect(), hash: RandomState::new() }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is small")]
    fn stripe(&self, path: &str) -> usize {
        (self.hash.hash_one(path) % STRIPES as u64) as usize
    }

    /// Takes a path alone, and where `above` is set each directory above it together with others.
    pub(crate) async fn change(&self, path: &str, above: bool) -> Vec<Held> {
        let mut wanted = BTreeMap::new();
        if above {
            for (at, _) in path.match_indices('/') {
                wanted.insert(self.stripe(&path[..at]), false);
            }
        }
        wanted.insert(self.stripe(path), true);
        let mut held = Vec::with_capacity(wanted.len());
        // All take them in the same order, so that nobody waits in a circle.
        for (stripe, alone) in wanted {
            let lock = Arc::clone(&self.stripes[stripe]);
            held.push(if alone {
                let mut lock = lock.write_owned().await;
                *lock = lock.wrapping_add(1);
                Held::Alone(lock)
            } else {
                Held::Shared(lock.read_owned().await)
            });
        }
        held
    }

    /// Holds a path as it is: nobody changes it meanwhile.
    pub(crate) async fn still(&self, path: &str) -> Held {
        Held::Shared(Arc::clone(&self.stripes[self.stripe(path)]).read_owned().await)
    }

    /// How often a path was changed, at least; `None` while it is changed. The same number twice: nobody changed it in between.
    pub(crate) fn changes(&self, path: &str) -> Option<u64> {
        self.stripes[self.stripe(path)].try_read().ok().map(|changes| *changes)
    }

    /// Waits for whoever changes a path just now; answers whether there was somebody.
    pub(crate) async fn settled(&self, path: &str) -> bool {
        let lock = &self.stripes[self.stripe(path)];
        if lock.try_read().is_ok() {
            return false;
        }
        drop(lock.read().await);
        true
    }
}
