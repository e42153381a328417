//! The contract, over the services that need no server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use opendal::Operator;
use opendal::services::{Fs, Memory};
use sluice_provider::conformance::Subject;
use sluice_provider_opendal::{Layout, MemoryOverlay, OpenDal, Service, Settings};

/// What is hard for this provider alone.
const HARD: [&str; 8] = ["%41", "%2E", "%!sluice/stage/x", "%+a", "a%", "a%/b", "%/x", "x/%!sluice/y"];

async fn memory() -> Subject {
    let operator = Operator::new(Memory::default()).unwrap();
    let settings = Settings::new(Service::Memory);
    Subject::new(OpenDal::over(operator, settings, Arc::new(MemoryOverlay::default()))).with_hard_keys(HARD)
}

async fn files() -> Subject {
    let root = tempfile::tempdir().unwrap();
    let operator = Operator::new(Fs::default().root(root.path().to_str().unwrap())).unwrap();
    let mut settings = Settings::new(Service::Fs);
    settings.layout = Layout::Marked;
    let provider = OpenDal::over(operator, settings, Arc::new(MemoryOverlay::default()));
    Subject::new(provider).with_hard_keys(HARD).keeping(root)
}

mod in_memory {
    use super::memory;

    sluice_provider::conformance!(memory);
}

mod in_files {
    use super::files;

    sluice_provider::conformance!(files);
}
