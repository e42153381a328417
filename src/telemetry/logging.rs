//! Where log lines go and which are written.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::lines::{Flush, Lines};
use super::notices::set_slow_ms;
use super::op_stats::op_stats;
use super::settings::{Format, Settings};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Keeps the log alive; what is queued is written when it is dropped.
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    control: LogControl,
    #[allow(dead_code, reason = "held for its Drop")]
    flush: Option<Flush>,
}

/// Changes what is logged, while it is.
#[derive(Clone, Debug, Default)]
pub struct LogControl(Option<reload::Handle<EnvFilter, Registry>>);

impl LogGuard {
    /// A way to change what is logged.
    #[must_use]
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }
}

impl LogControl {
    /// Goes by these levels from now on. The format stays.
    ///
    /// # Errors
    /// When `level` cannot be read.
    pub fn set(&self, settings: &Settings) -> Result<(), String> {
        let filter = filter(settings).map_err(|error| error.to_string())?;
        take_over(settings);
        match &self.0 {
            Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// How many lines were dropped because the reader of the log was too slow.
#[must_use]
pub fn log_lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Begins to log, for the whole process. A second call changes nothing.
///
/// # Errors
/// When `level` cannot be read, or there is no thread for the writer.
pub fn init(settings: &Settings) -> io::Result<LogGuard> {
    let filter = filter(settings).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    take_over(settings);
    let terminal = io::stderr().is_terminal();
    let (lines, flush) = Lines::start(io::stderr(), &DROPPED)?;
    let json = match settings.format {
        Format::Json => true,
        Format::Pretty => false,
        Format::Auto => !terminal,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let begun = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(lines)).try_init()
    } else {
        registry.with(fmt::layer().compact().with_ansi(colours).with_writer(lines)).try_init()
    };
    if begun.is_err() {
        return Ok(LogGuard { control: LogControl::default(), flush: None });
    }
    std::panic::set_hook(Box::new(|panic| {
        let why = panic.payload();
        let why = why.downcast_ref::<&str>().copied().or_else(|| why.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, why = why.unwrap_or("no message"), "panic");
    }));
    Ok(LogGuard { control: LogControl(Some(handle)), flush: Some(flush) })
}

/// What is not a matter of levels.
fn take_over(settings: &Settings) {
    set_slow_ms(settings.slow_ms);
    op_stats().switch(settings.op_stats);
}

/// Ours first, so that whoever names one of these modules in `level` has the last word. s3s logs an error for every bad signature,
/// which anybody can cause: those are answers, not faults.
fn filter(settings: &Settings) -> Result<EnvFilter, ParseError> {
    let switch = |on| if on { "info" } else { "off" };
    let (access, data) = (switch(settings.access), switch(settings.audit));
    let ours = format!("sluice::access={access},sluice::audit::admin=info,sluice::audit::data={data}");
    EnvFilter::try_new(format!(
        "s3s=off,s3s::ops::signature=off,hyper=warn,sqlx=warn,opentelemetry=warn,reqwest=warn,{ours},{}",
        settings.level
    ))
}

/// Whether `level` can be read.
///
/// # Errors
/// Why not.
pub(super) fn check_level(settings: &Settings) -> Result<(), String> {
    filter(settings).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(settings: &Settings, log: impl FnOnce()) -> String {
        let seen = Seen::default();
        let writer = seen.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter(settings).unwrap())
            .with(fmt::layer().with_ansi(false).with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = seen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn bad_signatures_do_not_flood_the_log_and_access_is_a_switch() {
        let log = || {
            tracing::error!(target: "s3s::ops", "signature");
            tracing::info!(target: "sluice::access", "request");
            tracing::info!("ours");
        };
        let quiet = logged(&Settings::default(), log);
        assert!(quiet.contains("ours") && !quiet.contains("signature") && !quiet.contains("request"), "{quiet}");
        let access = logged(&Settings { access: true, ..Settings::default() }, log);
        assert!(access.contains("request"), "{access}");
        let asked = logged(&Settings { level: "info,s3s=error".to_owned(), ..Settings::default() }, log);
        assert!(asked.contains("signature"), "{asked}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(check_level(&Settings { level: "inof=loud".to_owned(), ..Settings::default() }).is_err());
        assert!(check_level(&Settings::default()).is_ok());
    }
}
