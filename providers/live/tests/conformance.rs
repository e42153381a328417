//! The contract, as far as a stream within its window is an object.

use sluice_provider::conformance::Subject;
use sluice_provider_live::{Settings, Streams};

async fn fresh() -> Subject {
    Subject::new(Streams::new(Settings::default()))
}

sluice_provider::conformance!(fresh);
