//! The names of stores.

/// A DSN without what is secret in it.
#[must_use]
pub fn shown(dsn: &str) -> String {
    let Some((scheme, rest)) = dsn.split_once("://").filter(|(scheme, _)| *scheme != "sqlite") else { return dsn.to_owned() };
    let (rest, parameters) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
    let (user, host) = rest.rsplit_once('@').map_or(("", rest), |(user, host)| (user, host));
    let user = match user.split_once(':') {
        Some((user, _)) => format!("{user}:…@"),
        None if user.is_empty() => String::new(),
        None => format!("{user}@"),
    };
    format!("{scheme}://{user}{host}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_password_is_not_shown() {
        for (dsn, text) in [
            ("sqlite:/a/b", "sqlite:/a/b"),
            ("sqlite:///a/b", "sqlite:///a/b"),
            ("postgres://me:hunter2@db:5432/x", "postgres://me:…@db:5432/x"),
            ("postgres://me:hunt@er2@db/x?password=hunter2", "postgres://me:…@db/x?…"),
            ("postgres://me@db/x", "postgres://me@db/x"),
            ("postgres:///x?host=/run&password=hunter2", "postgres:///x?…"),
        ] {
            assert_eq!(shown(dsn), text);
        }
    }
}
