//! The layers as a whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::CommandFactory as _;
use proptest::prelude::*;
use toml::{Table, Value};

use super::layers::{environment_name, known_keys};
use super::*;

const HOME: (&str, &str) = ("HOME", "/home/somebody");

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sources {
        file: (!file.is_empty()).then(|| (PathBuf::from("sluice.toml"), file.to_owned())),
        environment: environment.iter().chain([&HOME]).map(own).collect(),
        flags: flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned(), format!("--set {key}"))).collect(),
    }
}

fn refusal(sources: &Sources) -> String {
    sources.load().unwrap_err().to_string()
}

/// A valid value other than the default, with how the environment and flags spell it.
fn other_value(key: &str, default: &Value, number: u16) -> (Value, String) {
    let number = i64::from(number) + 2048;
    let text = match key {
        "server.listen" | "admin.listen" => format!("127.0.0.1:{number}"),
        "meta.dsn" => format!("sqlite:/tmp/{number}.db"),
        "data_dir" => format!("/tmp/{number}"),
        "server.trusted_proxies" => format!("10.0.{}.{}", number / 256 % 256, number % 256),
        "server.tls_client_auth" => ["optional", "required"][usize::from(number % 2 == 0)].to_owned(),
        "limits.users" | "limits.buckets" => format!("name={number}"),
        "transfer.md5_lanes" => "off".to_owned(),
        "log.format" => "json".to_owned(),
        "s3.signature_v2" => ["off", "on"][usize::from(number % 2 == 0)].to_owned(),
        "log.level" => format!("info,part{number}=debug"),
        "default_mount.root" => format!("/tmp/{number}/{{bucket}}"),
        _ => format!("name-{number}"),
    };
    match default {
        Value::Integer(_) => (Value::Integer(number), number.to_string()),
        Value::Boolean(flag) => (Value::Boolean(!flag), (!flag).to_string()),
        Value::Array(_) => {
            let other = match key {
                "server.trusted_proxies" => "192.0.2.0/24",
                "limits.users" | "limits.buckets" => "other=1",
                _ => "other",
            };
            let items = [text.clone(), other.to_owned()];
            (Value::Array(items.iter().cloned().map(Value::String).collect()), items.join(", "))
        }
        _ => (Value::String(text.clone()), text),
    }
}

fn get(loaded: &Loaded, key: &str) -> Value {
    let table = Table::try_from(&loaded.config).unwrap();
    match key.split_once('.') {
        None => table[key].clone(),
        Some((section, key)) => table[section][key].clone(),
    }
}

fn in_file(key: &str, value: &Value) -> String {
    match key.split_once('.') {
        None => format!("{key} = {value}\n"),
        Some((section, key)) => format!("[{section}]\n{key} = {value}\n"),
    }
}

proptest! {
    #[test]
    fn every_key_can_be_set_from_every_layer_and_the_later_wins(
        index in any::<prop::sample::Index>(),
        numbers in prop::array::uniform3(1u16..20_000),
        layers in 1u8..8,
    ) {
        prop_assume!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
        let known = known_keys().unwrap();
        let (key, default) = index.get(&known.iter().collect::<Vec<_>>()).to_owned();
        let [file, environment, flag] = numbers.map(|number| other_value(key, default, number));
        let name = environment_name(key);
        let file_text = if layers & 1 == 0 { String::new() } else { in_file(key, &file.0) };
        let environment_pairs = [(name.as_str(), environment.1.as_str())];
        let flag_pairs = [(key.as_str(), flag.1.as_str())];
        let sources = sources(
            &file_text,
            if layers & 2 == 0 { &[] } else { &environment_pairs },
            if layers & 4 == 0 { &[] } else { &flag_pairs },
        );
        let wanted = match layers {
            4..=7 => flag.0,
            2..=3 => environment.0,
            _ => file.0,
        };
        let loaded = sources.load().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(get(&loaded, key), wanted);
        // Nothing else changed.
        let in_data_dir = ["data_dir", "meta.dsn", "default_mount.root", "mounts.plugin_dir"];
        for other in known.keys().filter(|other| *other != key && !in_data_dir.contains(&other.as_str())) {
            prop_assert_eq!(&get(&loaded, other), &known[other]);
        }
    }
}

#[test]
fn a_key_that_does_not_exist_is_refused_with_its_line_and_the_nearest() {
    let file = "# a comment\n[server]\nlisten = \"127.0.0.1:9000\"\nmax_concurent_requests = 5\n\n[srever]\nlisten = \"x:1\"\n";
    let error = refusal(&sources(file, &[], &[("s3.regoin", "x")]));
    assert!(
        error.contains(
            "sluice.toml:4: there is no key `server.max_concurent_requests`; did you mean `server.max_concurrent_requests`?"
        ),
        "{error}"
    );
    assert!(error.contains("sluice.toml:7: there is no key `srever.listen`; did you mean `server.listen`?"), "{error}");
    assert!(error.contains("--set s3.regoin: there is no key `s3.regoin`; did you mean `s3.region`?"), "{error}");
    let error = refusal(&sources("lissten = 1", &[], &[]));
    assert!(error.contains("sluice.toml:1: there is no key `lissten`") && error.contains(".listen`?"), "{error}");
    let error = refusal(&sources("", &[("SLUICE_SERVER_LISTNE", "127.0.0.1:1")], &[]));
    assert!(error.contains("did you mean `SLUICE_SERVER_LISTEN`?"), "{error}");
}

#[test]
fn names_in_the_environment_that_others_put_there_do_not_stop_the_start() {
    let loaded = sources(
        "",
        &[("SLUICE_SERVER_SERVICE_HOST", "10.0.0.1"), ("SLUICE_PORT", "tcp://10.0.0.1:9000"), ("SLUICE_LSITEN", "x")],
        &[],
    );
    let loaded = loaded.load().unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("SLUICE_LSITEN"));
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_place() {
    for (file, place, why) in [
        ("[server]\nlisten = 9000", "sluice.toml:2", "must be a string, not a whole number"),
        ("[server]\nrequest_timeout_secs = -1", "sluice.toml:2", "server.request_timeout_secs"),
        ("[server]\nrequest_timeout_secs = 0", "sluice.toml:2", "must be at least 1"),
        ("[log]\n\nformat = \"xml\"", "sluice.toml:3", "xml"),
        ("[s3]\ndomains = [1]", "sluice.toml:2", "a list of strings"),
        ("[server]\nlisten = \"nowhere\"", "sluice.toml:2", "an address and a port"),
        ("[default_mount]\nroot = \"/srv/all\"", "sluice.toml:2", "{bucket}"),
        ("[default_mount]\nprovider = \"s3\"\nbucket = \"far\"", "sluice.toml:2", "{bucket}"),
        ("[server\n", "sluice.toml:1", ""),
        ("[server.deep]\nx = 1", "sluice.toml:1", "no sections within sections"),
    ] {
        let error = refusal(&sources(file, &[], &[]));
        assert!(error.contains(place) && error.contains(why), "{file}: {error}");
    }
    let error = refusal(&sources("", &[("SLUICE_UPLOADS_EXPIRE_DAYS", "soon")], &[]));
    assert!(error.contains("SLUICE_UPLOADS_EXPIRE_DAYS: `uploads.expire_days` must be a whole number, not `soon`"), "{error}");
    assert!(refusal(&sources("", &[("SLUICE_ROOT_ACCESS_KEY", "half")], &[])).contains("belong together"));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let error = sources("[server]\nnone = 1\nlisten = 5\n", &[("SLUICE_LOG_ACCESS", "perhaps")], &[]).load().unwrap_err();
    assert_eq!(error.problems.len(), 3, "{error}");
}

#[test]
fn what_lies_in_the_data_directory_follows_it() {
    let loaded = sources("", &[], &[]).load().unwrap().config;
    assert_eq!(loaded.data_dir, "/home/somebody/.local/share/sluice");
    assert_eq!(loaded.sqlite_path(), Some(PathBuf::from("/home/somebody/.local/share/sluice/sluice.db")));
    assert_eq!(loaded.default_mount.settings()["root"], "/home/somebody/.local/share/sluice/buckets/{bucket}");
    let loaded = sources("", &[("XDG_DATA_HOME", "/data")], &[]).load().unwrap().config;
    assert_eq!(loaded.data_dir, "/data/sluice");
    let nowhere = Sources::default().load().unwrap().config;
    assert!(nowhere.data_dir.ends_with("/sluice-data"), "{}", nowhere.data_dir);
    let moved =
        sources("data_dir = \"/srv/a\"", &[("SLUICE_DATA_DIR", "/srv/b")], &[("data_dir", "/srv/c")]).load().unwrap().config;
    assert_eq!(moved.data_dir, "/srv/c");
}

#[test]
fn a_provider_gets_its_own_settings_and_no_root_that_is_not_its() {
    let file = "[default_mount]\nprovider = \"memory\"\nquota_bytes = 1000\n";
    let loaded = sources(file, &[("SLUICE_DEFAULT_MOUNT_LABEL", "x")], &[]).load().unwrap().config;
    let settings: BTreeMap<String, String> =
        [("quota_bytes", "1000"), ("label", "x")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(loaded.default_mount.settings(), settings);
    let loaded = sources("[default_mount]\nprovider = \"s3\"\nbucket = \"far\"\nprefix = \"{bucket}/\"\n", &[], &[])
        .load()
        .unwrap()
        .config;
    assert_eq!(loaded.default_mount.settings()["prefix"], "{bucket}/");
}

#[test]
fn what_check_prints_can_be_read_back_and_hides_secrets() {
    let file = "[default_mount]\nroot = \"/srv/{bucket}\"\nsecret_key = \"hush\"\n[s3]\ndomains = [\"s3.example.org\"]\n";
    let environment = [("SLUICE_MASTER_KEY", "very-hush"), ("SLUICE_SERVER_LISTEN", "127.0.0.1:7")];
    let loaded = sources(file, &environment, &[]).load().unwrap();
    let printed = loaded.to_toml();
    assert!(!printed.contains("hush\"") && !printed.contains("very-hush"), "{printed}");
    assert!(printed.contains("listen = \"127.0.0.1:7\" # SLUICE_SERVER_LISTEN"), "{printed}");
    assert!(printed.contains("# SLUICE_MASTER_KEY is set"), "{printed}");
    let again = sources(&printed, &[], &[]).load().unwrap();
    assert_eq!(again.config.to_toml(), loaded.config.to_toml());
}

#[test]
fn the_command_line_is_sound_and_every_command_shows_examples() {
    let command = Cli::command();
    command.clone().debug_assert();
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() {
            found.push((path.clone(), command.clone().render_long_help().to_string()));
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            leaves(inner, &path, found);
        }
    }
    let mut found = Vec::new();
    leaves(&command, "", &mut found);
    assert!(found.len() >= 8, "{found:?}");
    for (path, help) in found {
        assert!(help.contains("Examples:"), "{path}: {help}");
    }
}

#[test]
fn the_example_parses_and_is_complete() {
    let text = include_str!("../../sluice.example.toml");
    let loaded = sources(text, &[], &[]).load().unwrap();
    assert!(loaded.config.limits.enabled, "on in the example, off by default");
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')).collect();
    for key in known_keys().unwrap().keys().filter_map(|key| key.split_once('.')) {
        assert!(sections.contains(&key.0), "[{}] is missing", key.0);
    }
    // What is commented out can be used as it stands.
    let all =
        text.replace("\n# ", "\n").replace("Every section", "# Every section").replace("default. Secrets", "# default. Secrets");
    let used: Vec<&str> = all.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).collect();
    for line in used.iter().filter(|line| !text.lines().any(|plain| plain == **line)) {
        let key = line.split_once(" = ").unwrap().0;
        assert!(known_keys().unwrap().keys().any(|known| known.ends_with(&format!(".{key}"))), "{line}");
    }
}
