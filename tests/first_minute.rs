//! The binary as a person meets it: the first start, keys, configuration errors, the stop and its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(30);

struct Gateway {
    child: Child,
    s3: SocketAddr,
    admin: SocketAddr,
    log: Receiver<String>,
}

/// A command in an environment of its own: nothing of the developer's configuration reaches it.
fn sluice(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(args).env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

fn output(home: &Path, args: &[&str]) -> Output {
    sluice(home, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn start(mut command: Command) -> Gateway {
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (told, log) = channel();
    let errors = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| drop(told.send(line))));
    let serving = wait_for(&log, "serving S3 on");
    let mut addresses = serving.split("http://").skip(1).map(|rest| {
        let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().unwrap()
    });
    let (s3, admin) = (addresses.next().unwrap(), addresses.next().unwrap());
    Gateway { child, s3, admin, log }
}

fn wait_for(log: &Receiver<String>, what: &str) -> String {
    let deadline = Instant::now() + SOON;
    let mut seen = Vec::new();
    loop {
        match log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(what) => return line,
            Ok(line) => seen.push(line),
            Err(_) => panic!("no {what:?} in the log: {seen:#?}"),
        }
    }
}

impl Gateway {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0));
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        out
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn field<'a>(out: &'a str, name: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.trim().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {out}")).trim()
}

#[test]
fn the_first_start_needs_nothing_and_shows_the_root_key_once() {
    let home = tempfile::tempdir().unwrap();
    let gateway = start(sluice(home.path(), &[]));
    let (s3, admin) = (gateway.s3, gateway.admin);
    assert!(get(admin, "/health/live").contains("\"status\":\"ok\""));
    assert!(get(admin, "/health/ready").starts_with("HTTP/1.0 200"));
    assert!(get(admin, "/metrics").contains("sluice_open_handles 0"));
    assert!(get(admin, "/api/v1/keys").starts_with("HTTP/1.0 401"));
    assert!(get(s3, "/").starts_with("HTTP/1.0 403"), "S3 is served, and to nobody without a key");
    let out = gateway.stop();
    let (access_key, secret_key) = (field(&out, "access key"), field(&out, "secret key"));
    let paste = format!(
        "AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} aws --endpoint-url http://{s3} s3 mb s3://first"
    );
    assert!(out.contains(&paste), "{out}");

    let data = home.path().join(".local/share/sluice");
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    for secret in ["master.key", "admin.token", "sluice.db"] {
        assert_eq!(std::fs::metadata(data.join(secret)).unwrap().permissions().mode() & 0o077, 0, "{secret}");
    }
    assert_eq!(start(sluice(home.path(), &[])).stop(), "", "the second start shows no key");
}

#[test]
fn a_root_key_that_was_brought_along_is_taken_and_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let mut command = sluice(home.path(), &[]);
    command.env("SLUICE_ROOT_ACCESS_KEY", "SLBROUGHT").env("SLUICE_ROOT_SECRET_KEY", "brought-along-secret");
    assert_eq!(start(command).stop(), "");
    let keys = output(home.path(), &["key", "ls"]);
    assert_eq!(text(&keys.stdout), "SLBROUGHT\troot\n");
}

#[test]
fn keys_are_made_beside_a_running_gateway_and_on_a_stopped_one() {
    let home = tempfile::tempdir().unwrap();
    let none = output(home.path(), &["key", "create", "alice"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("there is no gateway in"), "{}", text(&none.stderr));

    let gateway = start(sluice(home.path(), &[]));
    let second = sluice(home.path(), &["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use by another gateway"), "{}", text(&second.stderr));

    // The admin listener is on a port that no configuration tells: the data directory does.
    let made = output(home.path(), &["key", "create", "alice", "--json"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["name"], made["secret_key"].as_str().unwrap().len()), (&"alice".into(), 40));
    let again = ["key", "create", "bob", "--access-key", "SLBOB", "--secret-key", "bobs-own-secret"];
    assert!(output(home.path(), &again).status.success());
    let taken = output(home.path(), &again);
    assert_eq!(taken.status.code(), Some(1), "{}", text(&taken.stderr));
    let mounts = output(home.path(), &["mount", "ls", "none-such"]);
    assert_eq!(mounts.status.code(), Some(1));
    assert!(text(&mounts.stderr).contains("NoSuchBucket"), "{}", text(&mounts.stderr));
    gateway.stop();

    assert!(output(home.path(), &["key", "create", "carol"]).status.success());
    assert!(output(home.path(), &["key", "rm", "SLBOB"]).status.success());
    assert_eq!(output(home.path(), &["key", "rm", "SLBOB"]).status.code(), Some(1));
    let listed = text(&output(home.path(), &["key", "ls"]).stdout);
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    assert_eq!(names.len(), 3, "{listed}");
    assert!(["root", "alice", "carol"].iter().all(|name| names.contains(name)), "{listed}");
    assert_eq!(output(home.path(), &["mount", "ls", "b"]).status.code(), Some(1), "mounts want a running gateway");
}

#[test]
fn a_configuration_that_makes_no_sense_is_told_with_code_2() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("sluice.toml");
    std::fs::write(&file, "[server]\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = output(home.path(), &["serve", "--config", file]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = text(&refused.stderr);
    assert!(errors.contains("sluice.toml:2") && errors.contains("did you mean `server.listen`?"), "{errors}");
    assert_eq!(output(home.path(), &["serve", "--config", "/none/such.toml"]).status.code(), Some(2));
    assert_eq!(output(home.path(), &["serve", "--nonsense"]).status.code(), Some(2));
    assert!(!home.path().join(".local").exists(), "nothing was started");
}

#[test]
fn check_prints_what_would_be_used_and_starts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut command = sluice(home.path(), &["serve", "--check", "--set", "log.access=true", "--data-dir", "/srv/sluice"]);
    let checked = command.env("SLUICE_S3_REGION", "eu-1").env("SLUICE_ROOT_ACCESS_KEY", "SLA");
    let checked = checked.env("SLUICE_ROOT_SECRET_KEY", "very-hush").output().unwrap();
    let printed = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    for line in
        ["region = \"eu-1\" # SLUICE_S3_REGION", "access = true # --set log.access", "data_dir = \"/srv/sluice\" # --data-dir"]
    {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
    assert!(!printed.contains("very-hush"), "{printed}");
    assert!(!home.path().join(".local").exists());
}

#[test]
fn a_port_that_is_taken_is_told_and_shows_no_root_key() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = output(home.path(), &["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    assert_eq!((failed.status.code(), text(&failed.stdout)), (Some(1), String::new()));
    assert!(text(&failed.stderr).contains(&format!("cannot listen on {address}")), "{}", text(&failed.stderr));
    assert!(start(sluice(home.path(), &[])).stop().contains("access key"), "the next start shows it");
}

#[test]
fn a_stop_does_not_wait_for_idle_connections() {
    let home = tempfile::tempdir().unwrap();
    let mut gateway = start(sluice(home.path(), &[]));
    let mut idle = TcpStream::connect(gateway.s3).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut some = [0; 16];
    idle.read_exact(&mut some).unwrap();
    let _silent = TcpStream::connect(gateway.s3).unwrap();
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    wait_for(&gateway.log, "all requests finished");
    assert!(TcpStream::connect(gateway.s3).is_err());
}

/// A request under way that no key signed: a form whose body is read before its policy can be looked at. It ends when its body does.
fn form_under_way(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.s3).unwrap();
    let head =
        "POST /bucket HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 400\r\n\r\n--b\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let deadline = Instant::now() + SOON;
    while !get(gateway.admin, "/metrics").contains("sluice_http_requests_in_flight 1") {
        assert!(Instant::now() < deadline, "the form is not under way");
    }
    stream
}

#[test]
fn a_stop_breaks_off_what_does_not_end_in_time_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let mut command = sluice(home.path(), &[]);
    command.env("SLUICE_SERVER_SHUTDOWN_TIMEOUT_SECS", "1");
    let mut gateway = start(command);
    let _stuck = form_under_way(&gateway);
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    wait_for(&gateway.log, "stopping");
    assert!(get(gateway.admin, "/health/ready").contains("draining"), "told until the end");
    assert_eq!(gateway.ended().code(), Some(3));
    assert!(began.elapsed() >= Duration::from_millis(900) && began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_stops_at_once() {
    let home = tempfile::tempdir().unwrap();
    let mut gateway = start(sluice(home.path(), &[]));
    let _stuck = form_under_way(&gateway);
    let began = Instant::now();
    gateway.signal(Signal::INT);
    wait_for(&gateway.log, "stopping");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ended().code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_stop_lets_a_request_end() {
    let home = tempfile::tempdir().unwrap();
    let mut gateway = start(sluice(home.path(), &[]));
    let mut form = form_under_way(&gateway);
    gateway.signal(Signal::TERM);
    wait_for(&gateway.log, "stopping");
    let deadline = Instant::now() + SOON;
    while TcpStream::connect(gateway.s3).is_ok() {
        assert!(Instant::now() < deadline, "new connections are taken");
    }
    form.write_all(&[b'x'; 395]).unwrap();
    let mut answer = String::new();
    form.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("<Code>"), "{answer}");
    assert_eq!(gateway.ended().code(), Some(0));
}
