//! The first start: the root key, and what a newcomer needs to know.

use std::io;
use std::net::SocketAddr;

use super::failure::Failure;
use crate::config::Secrets;
use crate::tokens::{Credential, Secret, Tokens};

/// The name of the identity that owns the root key.
const ROOT: &str = "root";

/// Creates the root key unless there is one, and shows it when it was generated here.
pub(super) async fn root_key(tokens: &Tokens, secrets: &Secrets, endpoint: &str) -> Result<(), Failure> {
    let failed = |error| Failure::of("the root key")(error);
    if tokens.has_root().await.map_err(failed)? {
        return Ok(());
    }
    if let (Some(access_key), Some(secret)) = (&secrets.root_access_key, &secrets.root_secret_key) {
        let secret = Secret::new(secret.expose().to_owned());
        tokens.create_key(ROOT, true, Some(access_key.clone()), Some(secret)).await.map_err(failed)?;
        tracing::info!(access_key, "first start: the root key is the one from the environment");
        return Ok(());
    }
    let key = tokens.create_key(ROOT, true, None, None).await.map_err(failed)?;
    if let Err(error) = show(&mut io::stdout().lock(), &key, endpoint) {
        // Nobody saw it: it must not stay, or the next start would not make another.
        let _ = tokens.delete_key(&key.access_key).await;
        return Err(Failure::of("the root key cannot be shown")(error));
    }
    tracing::info!(access_key = &*key.access_key, "first start: the root key was created and shown once on standard output");
    Ok(())
}

fn show(out: &mut impl io::Write, key: &Credential, endpoint: &str) -> io::Result<()> {
    let (access_key, secret_key) = (&key.access_key, key.secret.expose());
    write!(
        out,
        "\nThis is the root key. It is shown this once: keep it.\n\n  \
         access key  {access_key}\n  \
         secret key  {secret_key}\n\n\
         Make a bucket with it:\n\n  \
         AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} aws --endpoint-url {endpoint} s3 mb s3://first\n\n"
    )?;
    out.flush()
}

/// The address as a client on this machine reaches it.
pub(super) fn endpoint(address: SocketAddr, tls: bool) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    format!("{}://{address}", if tls { "https" } else { "http" })
}
