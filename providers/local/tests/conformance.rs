//! The contract, kept by the local provider in each of its ways to work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use sluice_provider::conformance::Subject;
use sluice_provider_local::{Durability, Local, Settings, Snapshots};

/// What is hard for this provider alone: the names that it uses itself.
const HARD: [&str; 16] = [
    ".sluice",
    ".sluice/staging",
    ".sluice/locks/00",
    ".sluice%",
    ".sluice%.sluice",
    ".sluice=a",
    ".sluice=",
    ".sluice+a/b",
    "a/.sluice%",
    "a/.sluice=b",
    "a/.sluice+b/c",
    "%00",
    "%25",
    ".sluice%25",
    "a/.sluice/b",
    ".sluicex",
];

fn subject(change: impl Fn(&mut Settings)) -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(dir.path().join("root"));
    change(&mut settings);
    let (one, two) = (Local::open(settings.clone()).unwrap(), Local::open(settings).unwrap());
    Subject::new(one).with_peer(two).with_hard_keys(HARD).keeping(dir)
}

mod by_default {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|_| {})
    }
    sluice_provider::conformance!(fresh);
}

mod without_flushing {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|settings| settings.durability = super::Durability::Os)
    }
    sluice_provider::conformance!(fresh);

    #[test]
    fn the_model_at_length() {
        sluice_provider::conformance::model(fresh, 100);
    }
}

mod without_xattrs {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|settings| {
            settings.xattrs = false;
            settings.durability = super::Durability::Os;
        })
    }
    sluice_provider::conformance!(fresh);
}

mod without_openat2 {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|settings| {
            settings.openat2 = false;
            settings.durability = super::Durability::Os;
        })
    }
    sluice_provider::conformance!(fresh);
}

/// Every way to save work is off.
mod the_plain_path {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|settings| {
            settings.xattrs = false;
            settings.openat2 = false;
            settings.exchange = false;
            settings.parts_in_place = false;
            settings.snapshots = super::Snapshots::Off;
            settings.spread = false;
            settings.durability = super::Durability::Os;
        })
    }
    sluice_provider::conformance!(fresh);

    #[test]
    fn the_model_at_length() {
        sluice_provider::conformance::model(fresh, 100);
    }
}

mod with_snapshots_by_times {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(|settings| {
            settings.snapshots = super::Snapshots::Times;
            settings.durability = super::Durability::Os;
        })
    }
    sluice_provider::conformance!(fresh);
}
