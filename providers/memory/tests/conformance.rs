//! The contract, promise by promise.

use sluice_provider::conformance::Subject;
use sluice_provider_memory::{Memory, Settings};

async fn fresh() -> Subject {
    Subject::new(Memory::new(Settings::default()))
}

sluice_provider::conformance!(fresh);
