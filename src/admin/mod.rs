//! Health, metrics, admin JSON API.

mod settings;

pub use settings::Settings;
