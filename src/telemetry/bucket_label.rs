//! Bucket names as label values, capped: the first hundred that were served keep their name, all others are `other`.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;

/// How many buckets have a series of their own.
pub(super) const NAMED_BUCKETS: usize = 100;

/// The names that are in use as labels.
#[derive(Debug)]
pub(super) struct BucketLabels {
    named: RwLock<HashSet<Arc<str>>>,
    none: Arc<str>,
    other: Arc<str>,
}

impl BucketLabels {
    pub(super) fn new() -> Self {
        Self { named: RwLock::new(HashSet::new()), none: Arc::from(""), other: Arc::from("other") }
    }

    /// The label of a bucket. Only a request that was `served` (so that the bucket is known to exist) can claim one of the places:
    /// a scan over names that do not exist would use them all up.
    pub(super) fn label(&self, bucket: &str, served: bool) -> Arc<str> {
        if bucket.is_empty() {
            return Arc::clone(&self.none);
        }
        let full = {
            let named = self.named.read();
            if let Some(label) = named.get(bucket) {
                return Arc::clone(label);
            }
            named.len() >= NAMED_BUCKETS
        };
        if !served || full {
            return Arc::clone(&self.other);
        }
        let mut named = self.named.write();
        if named.len() >= NAMED_BUCKETS {
            return Arc::clone(&self.other);
        }
        let label: Arc<str> = Arc::from(bucket);
        named.insert(Arc::clone(&label));
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_names_and_then_other() {
        let labels = BucketLabels::new();
        assert_eq!(&*labels.label("", true), "");
        assert_eq!(&*labels.label("scan", false), "other", "a bucket that was not served claims no place");
        for i in 0..NAMED_BUCKETS {
            let name = format!("bucket-{i}");
            assert_eq!(&*labels.label(&name, true), name);
        }
        assert_eq!(&*labels.label("late", true), "other");
        assert_eq!(&*labels.label("bucket-7", false), "bucket-7");
    }
}
