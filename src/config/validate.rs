//! Values that can be read but make no sense.

use super::settings::Config;

/// The keys that cannot stay as they are, and why.
pub(super) fn problems(config: &Config) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut check = |key: &str, good: bool, why: &str| {
        if !good {
            problems.push((key.to_owned(), why.to_owned()));
        }
    };
    check("server.listen", is_address(&config.server.listen), "must be an address and a port, such as 127.0.0.1:9000");
    check("admin.listen", is_address(&config.admin.listen), "must be an address and a port, such as 127.0.0.1:9001");
    let same = config.server.listen == config.admin.listen && !config.server.listen.ends_with(":0");
    check("admin.listen", !same, "must not be the address of the S3 listener");
    check("server.request_timeout_secs", config.server.request_timeout_secs > 0, "must be at least 1");
    check("server.idle_timeout_secs", config.server.idle_timeout_secs > 0, "must be at least 1");
    check("server.max_concurrent_requests", config.server.max_concurrent_requests > 0, "must be at least 1");
    check("server.max_connections", config.server.max_connections > 0, "must be at least 1");
    check("s3.region", is_name(&config.s3.region), "must be a name of letters, digits and hyphens");
    let domains = config.s3.domains.iter().all(|domain| domain.split('.').all(is_name));
    check("s3.domains", domains, "must be host names without a port");
    check("s3.max_write_size_bytes", config.s3.max_write_size_bytes > 0, "must be at least 1");
    check("s3.max_xml_size_bytes", config.s3.max_xml_size_bytes >= 1024, "must be at least 1024");
    check("handles.sweep_secs", config.handles.sweep_secs > 0, "must be at least 1");
    check("handles.idle_secs", config.handles.idle_secs > 0, "must be at least 1");
    check("mounts.sweep_secs", config.mounts.sweep_secs > 0, "must be at least 1");
    check("mounts.timeout_secs", config.mounts.timeout_secs > 0, "must be at least 1");
    check("mounts.max_concurrent", config.mounts.max_concurrent > 0, "must be at least 1");
    check("mounts.breaker_failures", config.mounts.breaker_failures > 0, "must be at least 1");
    check("uploads.sweep_secs", config.uploads.sweep_secs > 0, "must be at least 1");
    let store = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| config.meta.dsn.starts_with(scheme));
    check("meta.dsn", store, "must begin with `sqlite:` or `postgres://`");
    check("meta.breaker_failures", config.meta.breaker_failures > 0, "must be at least 1");
    check("meta.breaker_recovery_secs", config.meta.breaker_recovery_secs > 0, "must be at least 1");
    check("tokens.cache_capacity", config.tokens.cache_capacity > 0, "must be at least 1");
    check("tokens.cache_ttl_secs", config.tokens.cache_ttl_secs > 0, "must be at least 1");
    check("meta.pool", config.meta.pool >= 2, "must be at least 2");
    check("lifecycle.removals_per_sec", config.lifecycle.removals_per_sec > 0, "must be at least 1");
    check("default_mount.provider", !config.default_mount.provider.is_empty(), "must name a kind of provider");
    let root = &config.default_mount.root;
    let own = config.default_mount.provider != "local" || root.contains("{bucket}");
    check("default_mount.root", own, "must contain {bucket}: every bucket needs a directory of its own");
    let apart = config.default_mount.tells_buckets_apart();
    check(
        "default_mount.provider",
        apart,
        "needs {bucket} in a setting (prefix, root or space): else all buckets would be the same one",
    );
    if let Err(why) = (crate::server::Settings { proxy_protocol: false, ..config.server.clone() }).proxies() {
        problems.push(("server.trusted_proxies".to_owned(), why));
    }
    if let Err((key, why)) = config.limits.validate() {
        problems.push((format!("limits.{key}"), why));
    }
    if let Err((key, why)) = config.log.validate() {
        problems.push((format!("log.{key}"), why));
    }
    problems
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        !host.is_empty() && port.parse::<u16>().is_ok()
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
