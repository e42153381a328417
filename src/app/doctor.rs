//! `sluice doctor`: asks a running gateway what clients will ask of it, and says what is wrong and how to mend it.

mod probe;

use std::io::{self, Write as _};
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::failure::{DONE, FAILED, Failure};
use crate::config::{Config, DoctorArgs};
use crate::runtime::Trust;
use crate::server::ClientAuth;
use probe::{Keys, Probe, Reply};

/// Beyond this, signatures are refused (15 minutes); long before, something is wrong with a clock.
const SKEW_SECS: i64 = 60;
/// With less than this of the disk free, uploads will soon fail.
const FREE_PERCENT: u64 = 5;

const ENDS_SOON: &str = "a certificate that is shown ends within fourteen days: renew it";

/// What one look came to.
enum Finding {
    /// All is well.
    Good,
    /// It was not looked at, and why.
    Skipped(String),
    /// It works, and will not for long or for all.
    Poor(String),
    /// It does not work: what, and how to mend it.
    Bad(String),
}

/// The report, as it grows.
struct Report {
    bad: usize,
    poor: usize,
}

impl Report {
    fn tell(&mut self, what: &str, finding: &Finding) {
        let (mark, why) = match finding {
            Finding::Good => ("ok  ", None),
            Finding::Skipped(why) => ("--  ", Some(why)),
            Finding::Poor(why) => ("warn", Some(why)),
            Finding::Bad(why) => ("FAIL", Some(why)),
        };
        self.bad += usize::from(matches!(finding, Finding::Bad(_)));
        self.poor += usize::from(matches!(finding, Finding::Poor(_)));
        let line = why.map_or_else(|| format!("{mark}  {what}\n"), |why| format!("{mark}  {what}: {why}\n"));
        // Whoever closed the pipe does not want to know.
        let _ = io::stdout().write_all(line.as_bytes());
    }
}

/// Runs the command.
pub(super) fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let loaded = args.place.sources()?.load()?;
    let config = loaded.config;
    if args.health {
        // For supervisors and containers: one look, and the exit code.
        return match health(&config) {
            (Finding::Good | Finding::Poor(_) | Finding::Skipped(_), _) => Ok(DONE),
            (Finding::Bad(why), _) => Err(Failure::new(why)),
        };
    }
    let mut report = Report { bad: 0, poor: 0 };
    for warning in &loaded.warnings {
        report.tell("configuration", &Finding::Poor(warning.clone()));
    }
    report.tell("data directory", &data_dir(&config.data_dir()));
    let (finding, mounts) = health(&config);
    report.tell("admin listener, store and mounts", &finding);
    for mount in mounts {
        report.tell("mount", &Finding::Bad(mount));
    }
    for domain in &config.s3.domains {
        report.tell(&format!("name of a bucket beneath {domain}"), &resolves(domain));
    }
    let server = &config.server;
    let ours = if server.tls_cert.is_empty() { "http" } else { "https" };
    let endpoint = args.endpoint.clone().unwrap_or_else(|| format!("{ours}://{}", server.listen));
    let tls = endpoint.starts_with("https://");
    if tls && args.endpoint.is_none() && server.tls_client_auth == ClientAuth::Required {
        let why =
            "the S3 listener wants a certificate of its clients, and the doctor has none: name an --endpoint in front of it";
        report.tell("requests", &Finding::Skipped(why.to_owned()));
    } else {
        match trust(tls, server.tls_cert.as_str()) {
            Ok(trust) => requests(&mut report, Probe::new(&endpoint, trust), &config.s3.region),
            Err(error) => report.tell("TLS", &Finding::Bad(error.to_string())),
        }
    }
    let summary = match (report.bad, report.poor) {
        (0, 0) => "all is well".to_owned(),
        (bad, poor) => format!("{bad} failed, {poor} warnings"),
    };
    let _ = writeln!(io::stdout(), "{summary}");
    Ok(if report.bad == 0 { DONE } else { FAILED })
}

/// Whom the doctor believes over TLS: the authorities that AWS clients believe, and the listener of this configuration.
fn trust(tls: bool, own: &str) -> io::Result<Option<Trust>> {
    if !tls {
        return Ok(None);
    }
    let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    // A doctor of a gateway on another machine has none of its files.
    let own = Some(Path::new(own)).filter(|path| path.is_file());
    Trust::new(bundle.as_deref().map(Path::new), own).map(Some)
}

/// What the admin listener says of store and mounts; and the mounts that fail.
fn health(config: &Config) -> (Finding, Vec<String>) {
    let admin = &config.admin;
    let asked = trust(!admin.tls_cert.is_empty(), &admin.tls_cert);
    let asked = asked.and_then(|trust| {
        let probe = Probe::new(&format!("http://{}", admin.listen), trust);
        Ok((probe.get("/health/ready")?, probe.ends_soon() == Some(true)))
    });
    let (reply, ends_soon) = match asked {
        Ok(reply) => reply,
        Err(error) => {
            let why =
                format!("{} does not answer ({error}): is `sluice serve` running, with this admin.listen?", config.admin.listen);
            return (Finding::Bad(why), Vec::new());
        }
    };
    let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let failed = told.pointer("/mounts/failed").and_then(Value::as_array).cloned().unwrap_or_default();
    let failed = failed.iter().map(|mount| {
        let part = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{} {:?} cannot be used: look at its folder, and at the log", part("bucket"), part("prefix"))
    });
    let failed: Vec<String> = failed.collect();
    let finding = match (text("status").as_str(), text("store").as_str()) {
        ("ok", _) if ends_soon => Finding::Poor(ENDS_SOON.to_owned()),
        ("ok", _) => Finding::Good,
        ("degraded", _) => Finding::Poor("some mounts fail".to_owned()),
        ("draining", _) => Finding::Bad("the gateway is stopping".to_owned()),
        (_, "unavailable") => Finding::Bad("the metadata store does not answer: look at meta.dsn and at the database".to_owned()),
        (_, "ok") => Finding::Bad("no mount can be used".to_owned()),
        _ => Finding::Bad(format!("{} answers, but is not a gateway's admin listener", config.admin.listen)),
    };
    (finding, failed)
}

fn data_dir(path: &Path) -> Finding {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Finding::Poor(format!("{}: {error} (fine when the gateway runs elsewhere)", path.display())),
    };
    if found.mode() & 0o077 != 0 {
        return Finding::Bad(format!("others may read {}, which holds the master key: chmod 700 it", path.display()));
    }
    match rustix::fs::statvfs(path) {
        Ok(disk) if disk.f_blocks > 0 && 100 * disk.f_bavail / disk.f_blocks < FREE_PERCENT => {
            Finding::Bad(format!("less than {FREE_PERCENT} % of the disk of {} are free", path.display()))
        }
        Ok(_) => Finding::Good,
        Err(error) => Finding::Poor(format!("{}: {error}", path.display())),
    }
}

fn resolves(domain: &str) -> Finding {
    match format!("sluice-doctor.{domain}:80").to_socket_addrs() {
        Ok(_) => Finding::Good,
        Err(error) => Finding::Poor(format!(
            "sluice-doctor.{domain} has no address ({error}): clients that use virtual-host style need a wildcard record"
        )),
    }
}

/// The requests of clients.
fn requests(report: &mut Report, probe: Probe, region: &str) {
    let root = match probe.get("/") {
        Ok(reply) => reply,
        Err(error) => {
            let mut why = format!("{} does not answer ({error}): look at server.listen and at what stands between", probe.host());
            if probe.ends_soon().is_some() {
                why.push_str("; AWS_CA_BUNDLE names a file of authorities other than this machine's");
            }
            return report.tell("S3 listener", &Finding::Bad(why));
        }
    };
    if let Some(soon) = probe.ends_soon() {
        report.tell("TLS", &if soon { Finding::Poor(ENDS_SOON.to_owned()) } else { Finding::Good });
    }
    report.tell("S3 listener", &speaks_s3(&root));
    report.tell("clock", &clock(&root));
    let Some(keys) = Keys::from_environment() else {
        let why = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for requests that are signed".to_owned();
        return report.tell("signed requests", &Finding::Skipped(why));
    };
    let probe = probe.with_keys(keys, region);
    let bucket = format!("/sluice-doctor-{:x}", SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros()));
    let made = probe.signed("PUT", &bucket, "", &[], b"");
    let expect = |reply: io::Result<Reply>, status: u16, mend: &str| match reply {
        Ok(reply) if reply.status == status => Finding::Good,
        Ok(reply) => Finding::Bad(format!("{} {} instead of {status}: {mend}", reply.status, reply.code())),
        Err(error) => Finding::Bad(error.to_string()),
    };
    let finding = expect(made, 200, "is the key right, and does what stands between pass the Host header unchanged?");
    let stop = matches!(finding, Finding::Bad(_));
    report.tell("aws s3 mb: a bucket is made", &finding);
    if stop {
        return;
    }
    let key = format!("{bucket}/a%20b%2Bc");
    let body = b"sluice doctor";
    let put = probe.signed("PUT", &key, "", &[], body);
    report.tell("aws s3 cp: an object is stored", &expect(put, 200, "look at the bucket's mount"));
    let got = probe.signed("GET", &key, "", &[], b"");
    let same = match &got {
        Ok(reply) if reply.status == 200 && reply.body != body => Finding::Bad("other bytes come back".to_owned()),
        _ => expect(got, 200, "look at the bucket's mount"),
    };
    report.tell("presigned links: it is read through one", &same);
    let lock = probe.signed("PUT", &key, "", &[("if-none-match", "*")], body);
    let mend = "the mount does not keep conditions: Terraform locks and Delta Lake need them";
    report.tell("Terraform: a lock that is held is refused", &expect(lock, 412, mend));
    let part = probe.signed("GET", &key, "", &[("range", "bytes=0-5")], b"");
    report.tell("rclone, video players: a range", &expect(part, 206, "what stands between must pass the Range header"));
    let list = probe.signed("GET", &bucket, "list-type=2&prefix=a", &[], b"");
    let listed = match &list {
        Ok(reply) if reply.status == 200 && !reply.text().contains("<Key>a b+c</Key>") => {
            Finding::Bad("the object is not in it: does what stands between change the path?".to_owned())
        }
        _ => expect(list, 200, "look at the bucket's mount"),
    };
    report.tell("boto3: a listing", &listed);
    let cors = "<CORSConfiguration><CORSRule><AllowedOrigin>https://example.org</AllowedOrigin>\
                <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    let set = probe.signed("PUT", &bucket, "cors=", &[], cors.as_bytes());
    report.tell("aws s3api put-bucket-cors", &expect(set, 200, "look at the log"));
    let asked = [("origin", "https://example.org"), ("access-control-request-method", "GET")];
    let preflight = probe.send("OPTIONS", &key, &asked, b"");
    let mend = "what stands between must pass OPTIONS and its headers, and answer none of them itself";
    report.tell("browsers: a preflight", &expect(preflight, 200, mend));
    for (method, path, what) in [("DELETE", &key, "the object is removed"), ("DELETE", &bucket, "the bucket is removed")] {
        report.tell(what, &expect(probe.signed(method, path, "", &[], b""), 204, "remove it by hand"));
    }
}

fn speaks_s3(reply: &Reply) -> Finding {
    // The admin listener has the same headers; but it answers in JSON.
    let xml = reply.header("content-type").is_some_and(|kind| kind.starts_with("application/xml"));
    match (reply.header("x-amz-request-id").filter(|_| xml), reply.header("server")) {
        (Some(_), Some("Sluice")) => Finding::Good,
        (Some(_), _) => Finding::Poor("what stands between hides the Server header".to_owned()),
        (None, _) => Finding::Bad("what answers is not an S3 endpoint".to_owned()),
    }
}

fn clock(reply: &Reply) -> Finding {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc2822;
    let told = reply.header("date").and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
    let Some(told) = told else { return Finding::Poor("the answer has no date".to_owned()) };
    let skew = (OffsetDateTime::now_utc() - told).whole_seconds().abs();
    if skew < SKEW_SECS {
        return Finding::Good;
    }
    Finding::Bad(format!("it differs from the gateway's by {skew} s; from 15 minutes on no signature holds: run NTP on both"))
}
