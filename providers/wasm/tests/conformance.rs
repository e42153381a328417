//! The promises of the contract, kept through a plugin that looks at everything that is written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod plugins;

use std::sync::Arc;

use plugins::Place;
use sluice_provider::conformance::Subject;
use sluice_provider_memory::Memory;

async fn fresh() -> Subject {
    let place = Place::sharing();
    place.install("check", &plugins::check());
    let memory = Arc::new(Memory::new(sluice_provider_memory::Settings::default()));
    let settings = [("plugin", "check"), ("max_body_bytes", "4194304"), ("timeout_ms", "60000")];
    let mount = place.mount(&settings, Some(memory)).await.unwrap();
    Subject::shared(mount).keeping(place)
}

sluice_provider::conformance!(fresh);
