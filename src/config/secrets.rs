//! What comes from the environment only, and is never printed.

use crate::tokens::Secret;

/// Secrets that an operator brings along.
#[derive(Debug, Default)]
pub struct Secrets {
    /// `SLUICE_ROOT_ACCESS_KEY`: the access key of the root key that the first start creates.
    pub root_access_key: Option<String>,
    /// `SLUICE_ROOT_SECRET_KEY`: its secret.
    pub root_secret_key: Option<Secret>,
    /// `SLUICE_MASTER_KEY`: seals the secrets in the metadata store, instead of the file `master.key` in the data directory.
    pub master_key: Option<Secret>,
    /// `SLUICE_ADMIN_TOKEN`: the bearer token of the admin API, instead of the file `admin.token` in the data directory.
    pub admin_token: Option<Secret>,
    /// `SLUICE_KMS_ACCESS_KEY` and `SLUICE_KMS_SECRET_KEY`: the credential of `encryption.kms_endpoint`.
    pub kms: Option<(String, Secret)>,
}

/// Their names, with what they are for.
pub(super) const NAMES: [(&str, &str); 6] = [
    ("SLUICE_ROOT_ACCESS_KEY", "The access key of the root key that the first start creates."),
    ("SLUICE_ROOT_SECRET_KEY", "Its secret. When both are set, the first start prints neither."),
    (
        "SLUICE_MASTER_KEY",
        "Seals the secrets in the metadata store, instead of `master.key` in the data directory. Of several between commas, the first seals and the others only open.",
    ),
    ("SLUICE_ADMIN_TOKEN", "The bearer token of the admin API, instead of `admin.token` in the data directory."),
    ("SLUICE_KMS_ACCESS_KEY", "The access key with which `encryption.kms_endpoint` is called."),
    ("SLUICE_KMS_SECRET_KEY", "Its secret."),
];

impl Secrets {
    /// From the environment; an empty value is none.
    ///
    /// # Errors
    /// When only one half of the root key is there.
    pub(super) fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        let secret = |name: &str| get(name).map(Secret::new);
        let secrets = Self {
            root_access_key: get("SLUICE_ROOT_ACCESS_KEY"),
            root_secret_key: secret("SLUICE_ROOT_SECRET_KEY"),
            master_key: secret("SLUICE_MASTER_KEY"),
            admin_token: secret("SLUICE_ADMIN_TOKEN"),
            kms: get("SLUICE_KMS_ACCESS_KEY").zip(secret("SLUICE_KMS_SECRET_KEY")),
        };
        if secrets.kms.is_none() && (get("SLUICE_KMS_ACCESS_KEY").is_some() || get("SLUICE_KMS_SECRET_KEY").is_some()) {
            return Err("SLUICE_KMS_ACCESS_KEY and SLUICE_KMS_SECRET_KEY belong together: set both or neither".to_owned());
        }
        if secrets.root_access_key.is_some() == secrets.root_secret_key.is_some() {
            Ok(secrets)
        } else {
            Err("SLUICE_ROOT_ACCESS_KEY and SLUICE_ROOT_SECRET_KEY belong together: set both or neither".to_owned())
        }
    }
}

/// Whether a key of this name holds something to hide.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "credential", "access_key", "private"].iter().any(|part| name.contains(part))
}
