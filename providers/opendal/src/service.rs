//! The services: what each is called, how it publishes, what it keeps.

use std::collections::HashMap;
use std::fmt;

use opendal::{Configurator, Operator};
use sluice_provider::{Error, ErrorKind, Result};

use crate::credentials::Secrets;
use crate::error::failed;
use crate::settings::Settings;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Azure Blob Storage.
    Azblob,
    /// Backblaze B2.
    B2,
    /// A directory of this machine. For tests: the local provider is what serves files.
    Fs,
    /// FTP, to be read.
    Ftp,
    /// Google Cloud Storage.
    Gcs,
    /// HTTP, to be read.
    Http,
    /// Memory. For tests.
    Memory,
    /// SFTP, through the machine's `ssh`.
    Sftp,
    /// WebDAV (RFC 4918).
    Webdav,
}

/// How an object comes to be, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// The service shows what is written when its end was told.
    Close,
    /// What is written lies in the hidden space, and is renamed.
    Rename,
    /// It cannot.
    Never,
}

/// How bytes get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Piece after piece.
    Pieces,
    /// As the body of one HTTP request, which is ours to send.
    Request,
    /// As one buffer.
    Whole,
}

/// Which conditions of writes the service decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conditions {
    All,
    /// That there is no object.
    Create,
    None,
}

/// All of them, with whether this build has them.
const SERVICES: [(Service, &str, bool); 7] = [
    (Service::Azblob, "azblob", cfg!(feature = "azblob")),
    (Service::B2, "b2", cfg!(feature = "b2")),
    (Service::Ftp, "ftp", cfg!(feature = "ftp")),
    (Service::Gcs, "gcs", cfg!(feature = "gcs")),
    (Service::Http, "http", cfg!(feature = "http")),
    (Service::Sftp, "sftp", cfg!(feature = "sftp")),
    (Service::Webdav, "webdav", cfg!(feature = "webdav")),
];

impl Service {
    /// The service of a name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for one that is not known, or not in this build.
    pub fn named(name: &str) -> Result<Self> {
        let found = SERVICES.iter().find(|(_, known, _)| *known == name);
        let known = || SERVICES.iter().filter(|(.., built)| *built).map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ");
        match found {
            Some((service, _, true)) => Ok(*service),
            Some(_) => Err(Error::new(ErrorKind::Unsupported, "service that this build does not have").with("service", name)),
            None => Err(Error::new(ErrorKind::Unsupported, "unknown service")
                .with("service", format!("{name:?}"))
                .with("known", known())),
        }
    }

    /// Whether objects lie in directories that are there for themselves.
    pub(crate) fn is_tree(self) -> bool {
        matches!(self, Self::Fs | Self::Ftp | Self::Http | Self::Sftp | Self::Webdav)
    }

    pub(crate) fn publishing(self) -> Publishing {
        match self {
            Self::Azblob | Self::B2 | Self::Gcs | Self::Memory => Publishing::Close,
            Self::Fs | Self::Sftp | Self::Webdav => Publishing::Rename,
            Self::Ftp | Self::Http => Publishing::Never,
        }
    }

    pub(crate) fn sending(self) -> Sending {
        match self {
            Self::Webdav => Sending::Request,
            Self::Memory => Sending::Whole,
            Self::Azblob | Self::B2 | Self::Fs | Self::Ftp | Self::Gcs | Self::Http | Self::Sftp => Sending::Pieces,
        }
    }

    pub(crate) fn conditions(self) -> Conditions {
        match self {
            Self::Azblob => Conditions::All,
            Self::Gcs => Conditions::Create,
            Self::B2 | Self::Fs | Self::Ftp | Self::Http | Self::Memory | Self::Sftp | Self::Webdav => Conditions::None,
        }
    }

    /// Whether removing a directory that is not empty fails. WebDAV removes what is in it instead.
    pub(crate) fn spares_full_directories(self) -> bool {
        matches!(self, Self::Fs | Self::Sftp)
    }

    /// Whether it can be listed.
    pub(crate) fn lists(self) -> bool {
        self != Self::Http
    }

    /// The settings of this service beside those of all, with the name that OpenDAL has for each.
    pub(crate) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Azblob => &[
                ("endpoint", "endpoint"),
                ("container", "container"),
                ("account_name", "account_name"),
                ("anonymous", "skip_signature"),
            ],
            Self::Gcs => &[("endpoint", "endpoint"), ("bucket", "bucket"), ("anonymous", "skip_signature")],
            Self::B2 => &[("bucket", "bucket"), ("bucket_id", "bucket_id")],
            Self::Ftp => &[("endpoint", "endpoint"), ("user", "user")],
            Self::Http | Self::Webdav => &[("endpoint", "endpoint"), ("user", "username")],
            Self::Sftp => {
                &[("endpoint", "endpoint"), ("user", "user"), ("key_file", "key"), ("known_hosts", "known_hosts_strategy")]
            }
            Self::Fs | Self::Memory => &[],
        }
    }

    /// The settings that there must be.
    pub(crate) fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Azblob => &["container"],
            Self::B2 => &["bucket", "bucket_id"],
            Self::Gcs => &["bucket"],
            Self::Ftp | Self::Http | Self::Sftp | Self::Webdav => &["endpoint"],
            Self::Fs | Self::Memory => &[],
        }
    }

    /// What its file of credentials may hold, as OpenDAL names it.
    pub(crate) fn secrets(self) -> &'static [&'static str] {
        match self {
            Self::Azblob => &["account_key", "sas_token"],
            Self::Gcs => &["credential", "credential_path", "token"],
            Self::B2 => &["application_key_id", "application_key"],
            Self::Ftp => &["password"],
            Self::Http | Self::Webdav => &["password", "token"],
            Self::Sftp | Self::Fs | Self::Memory => &[],
        }
    }

    /// The name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::Memory => "memory",
            _ => SERVICES.iter().find(|(service, ..)| *service == self).map_or("", |(_, name, _)| *name),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What speaks to the service.
pub(crate) fn operator(settings: &Settings, secrets: &Secrets) -> Result<Operator> {
    let mut options: HashMap<String, String> = settings.options.clone();
    options.insert("root".into(), settings.root.clone());
    for (name, value) in secrets.iter() {
        options.insert(name.to_owned(), value.to_owned());
    }
    match settings.service {
        #[cfg(feature = "azblob")]
        Service::Azblob => build::<opendal::services::AzblobConfig>(options),
        #[cfg(feature = "b2")]
        Service::B2 => build::<opendal::services::B2Config>(options),
        #[cfg(feature = "ftp")]
        Service::Ftp => build::<opendal::services::FtpConfig>(options),
        #[cfg(feature = "gcs")]
        Service::Gcs => build::<opendal::services::GcsConfig>(options),
        #[cfg(feature = "http")]
        Service::Http => build::<opendal::services::HttpConfig>(options),
        #[cfg(feature = "sftp")]
        Service::Sftp => build::<opendal::services::SftpConfig>(options),
        #[cfg(feature = "webdav")]
        Service::Webdav => build::<opendal::services::WebdavConfig>(options),
        other => Err(Error::new(ErrorKind::Unsupported, "service that this build does not have").with("service", other)),
    }
}

fn build<C: Configurator>(options: HashMap<String, String>) -> Result<Operator> {
    // What it says of a setting may repeat its value, which may be a secret.
    let config = C::from_iter(options).map_err(|_| Error::new(ErrorKind::Unsupported, "settings of the service"))?;
    Operator::from_config(config).map_err(|e| failed("open the service", &e))
}
