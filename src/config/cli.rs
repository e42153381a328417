//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::error::ConfigError;
use super::layers::Sources;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 stopped with requests broken off.";

/// An S3 gateway over storage that you already have.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    Serve(ServeArgs),
    /// Access keys: create, list, remove.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Mounts of a bucket: add, list, remove. The gateway must be running.
    #[command(subcommand)]
    Mount(MountCommand),
    /// Kinds of providers: list them, describe one, or what the mounts of a bucket can do.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// The metadata store: copy it, seal its secrets anew.
    #[command(subcommand)]
    Meta(MetaCommand),
    /// Lifecycle rules: what a run would remove. The gateway must be running.
    #[command(subcommand)]
    Lifecycle(LifecycleCommand),
    /// Say why the signature of a request was refused: one of the last thousand of a gateway that runs.
    #[command(after_help = "\
Examples:
  sluice explain 5B3D5E0A7C1F4E92
  sluice explain 5B3D5E0A7C1F4E92 --json

The id is in the answer: x-amz-request-id, and RequestId in its body. Ask the gateway that answered.")]
    Explain {
        /// The id of the request.
        request_id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// About the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a running gateway what clients will ask of it, and say what is wrong and how to mend it.
    Doctor(DoctorArgs),
}

/// Ask a running gateway what clients will ask of it, and say what is wrong and how to mend it.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "\
Examples:
  sluice doctor                                     the gateway of this machine's configuration
  sluice doctor --endpoint http://s3.example.org    as clients reach it, through all that stands between
  sluice doctor --health                            one look at its readiness, for containers

With AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY it makes requests that are signed, in a bucket of its own that it removes.

Exit codes: 0 nothing failed, 1 something did.")]
pub struct DoctorArgs {
    /// Which gateway.
    #[command(flatten)]
    pub place: Place,
    /// Where clients reach it; the S3 listener when not given.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Only whether it is ready.
    #[arg(long)]
    pub health: bool,
}

/// Which gateway is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// The configuration file (also SLUICE_CONFIG).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the gateway keeps what is its own (also SLUICE_DATA_DIR).
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the admin listener (also SLUICE_ADMIN_LISTEN).
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,
}

/// Run the gateway.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "\
Examples:
  sluice serve                                      everything by default: data in the home directory, S3 on 127.0.0.1:9000
  sluice serve --data-dir /srv/sluice               data elsewhere
  sluice serve --config /etc/sluice/sluice.toml --check
                                                    print the configuration that would be used, start nothing
  sluice serve --set log.access=true                any key of the configuration

The first start creates a root key and prints it once, with a line to paste. SLUICE_ROOT_ACCESS_KEY and
SLUICE_ROOT_SECRET_KEY bring your own. SIGTERM or Ctrl+C drains; a second one stops at once.

Exit codes: 0 stopped and all requests finished, 1 failed, 2 wrong usage or configuration, 3 stopped with requests broken off.")]
pub struct ServeArgs {
    /// Which gateway.
    #[command(flatten)]
    pub place: Place,
    /// Address of the S3 listener (also SLUICE_SERVER_LISTEN).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Set any key of the configuration.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Print the effective configuration and exit.
    #[arg(long)]
    pub check: bool,
}

/// Access keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create an access key, and the identity NAME if there is none. The secret is shown once.
    #[command(after_help = "\
Examples:
  sluice key create alice
  sluice key create alice --json
  sluice key create ci --access-key SLCI --secret-key \"$(cat ci.secret)\"

Works through a running gateway, or on the data directory of one that is stopped.")]
    Create {
        /// The identity that the key belongs to. It owns the buckets it creates.
        name: String,
        /// May do everything, to everybody's buckets too.
        #[arg(long)]
        root: bool,
        /// The access key; generated when not given.
        #[arg(long, requires = "secret_key")]
        access_key: Option<String>,
        /// The secret key; generated when not given.
        #[arg(long, requires = "access_key")]
        secret_key: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// List access keys.
    #[command(after_help = "Examples:\n  sluice key ls\n  sluice key ls --json")]
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// Revoke an access key on every gateway: at once here, within a second elsewhere. It never comes back.
    #[command(after_help = "\
Examples:
  sluice key revoke SLABCDEFGHIJKLMNOPQR --reason \"found in a repository\"
  sluice key revoke SLABCDEFGHIJKLMNOPQR --presigned       only the presigned URLs that were made until now")]
    Revoke {
        /// The access key, lasting or temporary.
        access_key: String,
        /// Only what was presigned until now: the key goes on.
        #[arg(long)]
        presigned: bool,
        /// Why, for people.
        #[arg(long, default_value = "")]
        reason: String,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// Remove an access key, at once.
    #[command(after_help = "Examples:\n  sluice key rm SLABCDEFGHIJKLMNOPQR")]
    Rm {
        /// The access key.
        access_key: String,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
}

/// The metadata store.
#[derive(Debug, Subcommand)]
pub enum MetaCommand {
    /// Copy a store into a new one, of the same or another database. No gateway should run on the old one meanwhile: what it
    /// changes after the copy has begun is not copied.
    #[command(after_help = "\
Examples:
  sluice meta copy sqlite:/srv/sluice/sluice.db postgres://sluice:PASSWORD@db/sluice
  sluice meta copy \"$OLD_DSN\" \"$NEW_DSN\"

The new store must be empty. The master key stays the same.")]
    Copy {
        /// The store to copy.
        from: String,
        /// The store to copy into.
        to: String,
    },
    /// Seal every secret under the first of the master keys, while gateways serve.
    #[command(after_help = "\
Examples:
  sluice meta reseal

To exchange the master key:
  1. Put a new key (`openssl rand -hex 32`) before the old one: as the first line of master.key, or `NEW,OLD` in SLUICE_MASTER_KEY (and
     restart, one gateway after the other).
  2. sluice meta reseal
  3. Take the old key away.")]
    Reseal {
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
}

/// Providers.
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// List the kinds of providers. No gateway need run.
    #[command(after_help = "Examples:\n  sluice provider ls\n  sluice provider ls --json")]
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Describe a kind of provider, or what the mounts of a bucket can do (the gateway must be running).
    #[command(after_help = "Examples:\n  sluice provider describe kv\n  sluice provider describe --bucket photos")]
    Describe {
        /// The kind.
        #[arg(required_unless_present = "bucket", conflicts_with = "bucket")]
        kind: Option<String>,
        /// The bucket.
        #[arg(long)]
        bucket: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
}

/// Mounts.
#[derive(Debug, Subcommand)]
pub enum MountCommand {
    /// Mount a provider at a prefix of a bucket.
    #[command(after_help = "\
Examples:
  sluice mount add photos archive/ local --set root=/mnt/archive
  sluice mount add photos tmp/ memory
  sluice mount add photos storage-class:GLACIER_IR local --set root=/mnt/slow")]
    Add {
        /// The bucket.
        bucket: String,
        /// The prefix of the keys that the provider serves; \"\" for the whole bucket.
        prefix: String,
        /// The kind of provider.
        provider: String,
        /// A setting of the provider.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// List the mounts of a bucket.
    #[command(after_help = "Examples:\n  sluice mount ls photos\n  sluice mount ls photos --json")]
    Ls {
        /// The bucket.
        bucket: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
    /// Unmount; the data stays where it is.
    #[command(after_help = "Examples:\n  sluice mount rm photos tmp/")]
    Rm {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
}

/// Lifecycle rules.
#[derive(Debug, Subcommand)]
pub enum LifecycleCommand {
    /// Show what the rules of a bucket would remove now, or at another time. Changes nothing.
    #[command(after_help = "\
Examples:
  sluice lifecycle plan photos
  sluice lifecycle plan photos --at 2031-01-01T00:00:00Z --limit 20
  sluice lifecycle plan photos --json")]
    Plan {
        /// The bucket.
        bucket: String,
        /// The time of the run, as RFC 3339 writes it; now when not given.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// How many objects and uploads are shown by name; all are counted.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which gateway.
        #[command(flatten)]
        place: Place,
    },
}

/// About the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the reference of all keys, as in docs/CONFIG.md.
    #[command(after_help = "Examples:\n  sluice config reference > docs/CONFIG.md")]
    Reference,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl Cli {
    /// Reads the command line; tells and leaves the process with 2 when it makes no sense.
    #[must_use]
    pub fn read() -> Self {
        <Self as Parser>::parse()
    }
}

fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

impl Place {
    /// The layers that this command line, the environment and the file make.
    ///
    /// # Errors
    /// A file that was named and cannot be read.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        let environment = environment();
        let file = match self.file(&environment) {
            None => None,
            Some((path, named)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(format!("{}: {error}", path.display()).into()),
            },
        };
        let mut flags = Vec::new();
        if let Some(dir) = &self.data_dir {
            flags.push(("data_dir".to_owned(), dir.to_string_lossy().into_owned(), "--data-dir".to_owned()));
        }
        if let Some(address) = &self.admin_listen {
            flags.push(("admin.listen".to_owned(), address.clone(), "--admin-listen".to_owned()));
        }
        Ok(Sources { file, environment, flags })
    }

    /// The file, and whether somebody named it.
    fn file(&self, environment: &std::collections::BTreeMap<String, String>) -> Option<(PathBuf, bool)> {
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(named) = self.config.clone().or_else(|| set("SLUICE_CONFIG")) {
            return Some((named, true));
        }
        let own = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let own = own.map(|dir| dir.join("sluice/sluice.toml"));
        let found = own.into_iter().chain([PathBuf::from("/etc/sluice/sluice.toml")]).find(|path| path.is_file());
        found.map(|path| (path, false))
    }
}

impl ServeArgs {
    /// The configuration file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.place.file(&environment()).map(|(path, _)| path)
    }

    /// The layers, with the flags of `serve`.
    ///
    /// # Errors
    /// As [`Place::sources`].
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        let mut sources = self.place.sources()?;
        if let Some(address) = &self.listen {
            sources.flags.push(("server.listen".to_owned(), address.clone(), "--listen".to_owned()));
        }
        for (key, value) in &self.set {
            sources.flags.push((key.clone(), value.clone(), format!("--set {key}")));
        }
        Ok(sources)
    }
}
