//! The commands, and how they find their gateway.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::data_dir::{DataDir, Hold, admin_token_path};
use super::failure::{DONE, Failure};
use super::{doctor, serve};
use crate::admin::{Client, read_admin_token};
use crate::config::{
    self, Cli, Command, ConfigCommand, KeyCommand, LifecycleCommand, Loaded, MetaCommand, MountCommand, Place, ProviderCommand,
};
use crate::meta::{self, Revoked};
use crate::mounts::KINDS;
use crate::runtime::Trust;
use crate::tokens::{Secret, Tokens};

/// Does what the command line says.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let done = match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Key(command) => key(command),
        Command::Mount(command) => mount(command),
        Command::Provider(command) => provider(command),
        Command::Meta(command) => metadata(command),
        Command::Lifecycle(command) => lifecycle(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Explain { request_id, json, place } => explain(request_id, *json, place),
        Command::Config(ConfigCommand::Reference) => say(&config::reference()).map(|()| DONE),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "sluice: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// The gateway that is meant.
enum Gateway {
    /// It runs.
    Running(Client),
    /// It does not, and its data directory is ours for the while.
    Stopped(Box<(DataDir, Loaded)>),
}

fn find(place: &Place) -> Result<Gateway, Failure> {
    let loaded = place.sources()?.load()?;
    let path = loaded.config.data_dir();
    let token = |loaded: &Loaded| match &loaded.secrets.admin_token {
        Some(token) => Ok(Secret::new(token.expose().to_owned())),
        None => {
            let path = admin_token_path(&path);
            read_admin_token(&path).map_err(Failure::of(format!("the admin token {}", path.display())))
        }
    };
    let client = |address: &str, cert: &Path| {
        let client = Client::new(address, token(&loaded)?);
        if cert.as_os_str().is_empty() {
            return Ok(Gateway::Running(client));
        }
        let trust = Trust::new(None, Some(cert)).map_err(Failure::of("admin.tls_cert"))?;
        Ok(Gateway::Running(client.with_trust(trust)))
    };
    let configured_cert = Path::new(&loaded.config.admin.tls_cert);
    match DataDir::hold(&path, false)? {
        Hold::Theirs(holder) => {
            let configured = place.admin_listen.is_some() || holder.admin.is_empty();
            let address = if configured { &loaded.config.admin.listen } else { &holder.admin };
            let named = !configured_cert.as_os_str().is_empty();
            client(address, if named { configured_cert } else { &holder.admin_cert })
        }
        // A gateway with its data elsewhere, or on another machine: reached by its address and token alone.
        _ if loaded.secrets.admin_token.is_some() && place.admin_listen.is_some() => {
            client(&loaded.config.admin.listen, configured_cert)
        }
        Hold::Ours(dir) if loaded.config.sqlite_path().is_none_or(|path| path.exists()) => {
            Ok(Gateway::Stopped(Box::new((dir, loaded))))
        }
        Hold::Ours(_) | Hold::Missing => Err(Failure::new(format!(
            "there is no gateway in {}: name its data directory with --data-dir, or start one with `sluice serve`",
            path.display()
        ))),
    }
}

/// Runs a task on the tokens of a gateway that is stopped.
fn on_store<T>(stopped: &(DataDir, Loaded), task: impl AsyncFnOnce(&Tokens) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(Failure::of("the runtime"))?.block_on(async {
        let (dir, loaded) = stopped;
        let (store, tokens) = serve::open_store(&loaded.config, &loaded.secrets, dir).await?;
        let done = task(&tokens).await;
        store.close().await;
        done
    })
}

fn key(command: &KeyCommand) -> Result<u8, Failure> {
    match command {
        KeyCommand::Create { name, root, access_key, secret_key, json, place } => {
            let created = match find(place)? {
                Gateway::Running(client) => {
                    let body = json!({ "name": name, "root": root, "access_key": access_key, "secret_key": secret_key });
                    client.call("POST", "/api/v1/keys", Some(&body)).map_err(Failure::of("create key"))?
                }
                Gateway::Stopped(stopped) => on_store(&stopped, async |tokens| {
                    let secret = secret_key.clone().map(Secret::new);
                    let key = tokens.create_key(name, *root, access_key.clone(), secret).await;
                    let key = key.map_err(Failure::of("create key"))?;
                    Ok(json!({
                        "name": key.identity.name,
                        "identity": key.identity.id,
                        "access_key": &*key.access_key,
                        "secret_key": key.secret.expose(),
                    }))
                })?,
            };
            let text = |field: &str| created[field].as_str().unwrap_or_default().to_owned();
            if *json {
                say(&format!("{created}\n"))?;
            } else {
                say(&format!("access key  {}\nsecret key  {}\n", text("access_key"), text("secret_key")))?;
            }
        }
        KeyCommand::Ls { json, place } => {
            let list = match find(place)? {
                Gateway::Running(client) => client.call("GET", "/api/v1/keys", None).map_err(Failure::of("list keys"))?,
                Gateway::Stopped(stopped) => on_store(&stopped, async |tokens| {
                    let keys = tokens.keys().await.map_err(Failure::of("list keys"))?;
                    let keys: Vec<Value> = keys
                        .into_iter()
                        .map(|(key, name)| {
                            json!({
                                "access_key": key.access_key,
                                "name": name,
                                "identity": key.account,
                                "active": key.active,
                                "created_ms": key.created,
                            })
                        })
                        .collect();
                    Ok(json!({ "keys": keys }))
                })?,
            };
            print_list(&list, "keys", &["access_key", "name"], *json)?;
        }
        KeyCommand::Revoke { access_key, presigned, reason, place } => match find(place)? {
            Gateway::Running(client) => {
                let what = if *presigned { "presigned" } else { "access_key" };
                let body = json!({ what: access_key, "reason": reason });
                client.call("POST", "/api/v1/auth/revoke", Some(&body)).map_err(Failure::of("revoke key"))?;
            }
            Gateway::Stopped(stopped) => on_store(&stopped, async |tokens| {
                let what = if *presigned { Revoked::Presigned } else { Revoked::Key };
                tokens.revoke(what(access_key.clone()), reason).await.map_err(Failure::of("revoke key"))
            })?,
        },
        KeyCommand::Rm { access_key, place } => match find(place)? {
            Gateway::Running(client) => {
                let path = format!("/api/v1/keys/{}", encoded(access_key));
                client.call("DELETE", &path, None).map_err(Failure::of("remove key"))?;
            }
            Gateway::Stopped(stopped) => {
                let found =
                    on_store(&stopped, async |tokens| tokens.delete_key(access_key).await.map_err(Failure::of("remove key")))?;
                if !found {
                    return Err(Failure::new(format!("remove key: there is no access key {access_key}")));
                }
            }
        },
    }
    Ok(DONE)
}

fn metadata(command: &MetaCommand) -> Result<u8, Failure> {
    match command {
        MetaCommand::Copy { from, to } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let copied = runtime.map_err(Failure::of("the runtime"))?.block_on(meta::copy(from, to));
            let rows = copied.map_err(Failure::of("copy"))?;
            let mut text = String::new();
            for (table, rows) in rows {
                text.push_str(&format!("{table}\t{rows}\n"));
            }
            say(&text)?;
        }
        MetaCommand::Reseal { place } => {
            let done = match find(place)? {
                Gateway::Running(client) => client.call("POST", "/api/v1/auth/reseal", None).map_err(Failure::of("reseal"))?,
                Gateway::Stopped(stopped) => on_store(&stopped, async |tokens| {
                    let done = tokens.reseal().await.map_err(Failure::of("reseal"))?;
                    Ok(json!({ "secrets": done.secrets, "resealed": done.resealed, "closed": done.closed }))
                })?,
            };
            say(&format!("{done}\n"))?;
            if done["closed"].as_u64().unwrap_or_default() > 0 {
                return Err(Failure::new("some secrets open with no master key: keep the old key, and see the log"));
            }
        }
    }
    Ok(DONE)
}

fn mount(command: &MountCommand) -> Result<u8, Failure> {
    let client = |place: &Place| match find(place)? {
        Gateway::Running(client) => Ok(client),
        Gateway::Stopped(_) => Err(Failure::new("the gateway is not running: mounts are changed while it serves")),
    };
    let path = |bucket: &str| format!("/api/v1/buckets/{}/mounts", encoded(bucket));
    match command {
        MountCommand::Add { bucket, prefix, provider, set, place } => {
            let settings: BTreeMap<&str, &str> = set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let body = json!({ "prefix": prefix, "provider": provider, "settings": settings });
            client(place)?.call("POST", &path(bucket), Some(&body)).map_err(Failure::of("mount"))?;
        }
        MountCommand::Ls { bucket, json, place } => {
            let list = client(place)?.call("GET", &path(bucket), None).map_err(Failure::of("list mounts"))?;
            print_list(&list, "mounts", &["prefix", "provider", "settings"], *json)?;
        }
        MountCommand::Rm { bucket, prefix, place } => {
            let path = format!("{}?prefix={}", path(bucket), encoded(prefix));
            client(place)?.call("DELETE", &path, None).map_err(Failure::of("unmount"))?;
        }
    }
    Ok(DONE)
}

fn provider(command: &ProviderCommand) -> Result<u8, Failure> {
    match command {
        ProviderCommand::Ls { json } => {
            let list = json!({ "providers": KINDS });
            print_list(&list, "providers", &["name", "built", "about"], *json)?;
        }
        ProviderCommand::Describe { bucket: Some(bucket), json, place, .. } => {
            let Gateway::Running(client) = find(place)? else {
                return Err(Failure::new("the gateway is not running: what its mounts can do is known to it alone"));
            };
            let path = format!("/api/v1/buckets/{}/caps", encoded(bucket));
            let list = client.call("GET", &path, None).map_err(Failure::of("describe"))?;
            let columns = [
                "prefix",
                "provider",
                "writable",
                "conditions",
                "attributes",
                "persistent",
                "multipart",
                "versions",
                "append",
                "rename",
                "follow",
                "state",
            ];
            if !json {
                say(&format!("{}\n", columns.join("\t")))?;
            }
            print_list(&list, "mounts", &columns, *json)?;
        }
        ProviderCommand::Describe { kind, json, .. } => {
            let wanted = kind.as_deref().unwrap_or_default();
            let kind = KINDS.iter().find(|kind| kind.name == wanted).ok_or_else(|| {
                let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                Failure::new(format!("there is no provider {wanted:?}; there are {}", known.join(", ")))
            })?;
            if *json {
                say(&format!("{}\n", json!(kind)))?;
            } else {
                let built = if kind.built { "yes" } else { "no: it was left out of this build" };
                say(&format!(
                    "name      {}\nis        {}\nsettings  {}\nbuilt     {built}\n",
                    kind.name, kind.about, kind.settings
                ))?;
            }
        }
    }
    Ok(DONE)
}

fn lifecycle(command: &LifecycleCommand) -> Result<u8, Failure> {
    let LifecycleCommand::Plan { bucket, at, limit, json, place } = command;
    let Gateway::Running(client) = find(place)? else {
        return Err(Failure::new("the gateway is not running: a plan is made from what it serves"));
    };
    let mut path = format!("/api/v1/buckets/{}/lifecycle/plan?limit={limit}", encoded(bucket));
    if let Some(at) = at {
        path.push_str(&format!("&at={}", encoded(at)));
    }
    let plan = client.call("GET", &path, None).map_err(Failure::of("plan"))?;
    print_list(&plan, "steps", &["action", "due", "rule", "size", "key"], *json)?;
    if !json {
        let count = |field: &str| plan[field].as_u64().unwrap_or_default();
        say(&format!(
            "at {}: of {} looked at, {} objects and {} versions expire ({} bytes), {} move to another storage class ({} bytes), {} delete markers go, {} uploads are aborted; nothing was changed\n",
            plan["at"].as_str().unwrap_or_default(),
            count("seen"),
            count("expire"),
            count("expire_versions"),
            count("bytes"),
            count("moves"),
            count("moved_bytes"),
            count("remove_markers"),
            count("abort_uploads"),
        ))?;
    }
    Ok(DONE)
}

fn explain(request_id: &str, json: bool, place: &Place) -> Result<u8, Failure> {
    let Gateway::Running(client) = find(place)? else {
        return Err(Failure::new("the gateway is not running: what it refused is known to it alone"));
    };
    let path = format!("/api/v1/requests/{}/explanation", encoded(request_id));
    let found = client.call("GET", &path, None).map_err(Failure::of("explain"))?;
    if json {
        say(&format!("{found}\n"))?;
        return Ok(DONE);
    }
    let mut text = format!("{}\n", found["code"].as_str().unwrap_or_default());
    for fact in found["facts"].as_array().into_iter().flatten() {
        let part = |name: &str| fact[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("{:<16} {}\n", part("name"), part("value")));
    }
    say(&text)?;
    Ok(DONE)
}

fn print_list(list: &Value, field: &str, columns: &[&str], json: bool) -> Result<(), Failure> {
    if json {
        return say(&format!("{list}\n"));
    }
    let mut text = String::new();
    for row in list[field].as_array().into_iter().flatten() {
        let cells = columns.iter().map(|column| match &row[*column] {
            Value::String(text) if text.is_empty() => "\"\"".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(settings) => {
                let pairs = settings.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
                pairs.collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        });
        text.push_str(&cells.collect::<Vec<_>>().join("\t"));
        text.push('\n');
    }
    say(&text)
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `sluice key ls | head`
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said.map_err(Failure::of("standard output")),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
