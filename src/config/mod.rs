//! Configuration: defaults ← file ← environment ← flags, composed of each room's own `Settings`, and the command line.
//!
//! It promises that every key can be set from every layer, that a key nobody reads is a start-up error which names the nearest key
//! that exists, and that what [`Config::to_toml`] prints is what the gateway does, with secrets hidden. The only room that names clap
//! and toml.

mod cli;
mod default_mount;
mod error;
mod file;
mod layers;
mod nearest;
mod print;
mod reference;
mod secrets;
mod settings;
mod validate;

pub use cli::{
    Cli, Command, ConfigCommand, DoctorArgs, KeyCommand, LifecycleCommand, MetaCommand, MountCommand, Place, ProviderCommand,
    ServeArgs,
};
pub use default_mount::DefaultMountSettings;
pub use error::ConfigError;
pub use layers::{Loaded, Sources};
pub use reference::reference;
pub use secrets::Secrets;
pub use settings::Config;

#[cfg(test)]
mod tests;
