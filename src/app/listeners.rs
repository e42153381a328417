//! The listeners: bound here, or by a supervisor that keeps them open while we are not there (systemd's socket activation).

use listenfd::ListenFd;

use super::failure::Failure;
use crate::config::Config;
use crate::server::{Server, TlsFiles};

/// The S3 listener and the admin listener. Of sockets that were passed on (`LISTEN_FDS`) the first is for S3 and the second for admin;
/// what was not passed on is bound.
pub(super) async fn bind(config: &Config) -> Result<(Server, Server), Failure> {
    let mut passed = ListenFd::from_env();
    let s3 = one(&mut passed, 0, "server.listen", &config.server.listen).await?;
    let admin = one(&mut passed, 1, "admin.listen", &config.admin.listen).await?;
    Ok((s3, admin))
}

/// Where the certificates of the admin listener lie; `None` without TLS.
///
/// # Errors
/// One is named without the other.
pub(super) fn admin_tls(config: &Config) -> Result<Option<TlsFiles>, String> {
    TlsFiles::pair("admin", &config.admin.tls_cert, &config.admin.tls_key)
}

async fn one(passed: &mut ListenFd, index: usize, key: &str, address: &str) -> Result<Server, Failure> {
    let failed = |error| Failure::new(format!("{key}: cannot listen on {address}: {error}"));
    match passed.take_tcp_listener(index).map_err(failed)? {
        Some(listener) => Server::of(listener).map_err(failed),
        None => Server::bind(address).await.map_err(failed),
    }
}
