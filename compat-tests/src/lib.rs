//! Black-box tests: real clients against the real binary. This crate starts it for the clients that are written in Rust; the others
//! are driven by `compat-tests/run`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The root access key of a gateway under test.
pub const ACCESS_KEY: &str = "SLUICERUSTTESTS00001";
/// Its secret.
pub const SECRET_KEY: &str = "rust/tests+secret/of/the/root/identity";

/// A gateway of its own: loopback ports, a data directory that goes with it. Ended on drop, by its process id.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    _work: tempfile::TempDir,
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
}

impl Gateway {
    /// Starts `SLUICE_BIN`, or the binary that cargo built last, and waits until it is ready. `config` is the configuration file's text.
    ///
    /// # Panics
    /// When there is no binary, or it does not become ready within 20 s.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let (listen, admin) = (free_address(), free_address());
        let file = work.path().join("sluice.toml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(work.path().join("gateway.log")).unwrap();
        let process = Command::new(binary())
            .arg("serve")
            .args(["--listen", &listen, "--admin-listen", &admin])
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(work.path().join("data"))
            .env("SLUICE_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("SLUICE_ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("start the gateway");
        let mut gateway = Self { process, endpoint: format!("http://{listen}"), _work: work };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready(&admin) {
            let log = std::fs::read_to_string(gateway._work.path().join("gateway.log")).unwrap_or_default();
            assert!(gateway.process.try_wait().unwrap().is_none(), "the gateway ended at its start:\n{log}");
            assert!(Instant::now() < deadline, "the gateway was not ready in time:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary under test.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("SLUICE_BIN") {
        return named.into();
    }
    // target/debug/deps/this-test → target
    let here = std::env::current_exe().unwrap();
    let target = here.ancestors().nth(3).unwrap_or(Path::new("target"));
    let built = ["release", "debug"].map(|profile| target.join(profile).join("sluice"));
    built.iter().find(|path| path.is_file()).expect("no binary: build it (cargo b --release) or name it in SLUICE_BIN").clone()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn ready(admin: &str) -> bool {
    let Ok(mut connection) = TcpStream::connect(admin) else { return false };
    let _ = connection.set_read_timeout(Some(Duration::from_secs(2)));
    let request = format!("GET /health/ready HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    let mut answer = [0; 12];
    connection.write_all(request.as_bytes()).is_ok() && connection.read_exact(&mut answer).is_ok() && answer.ends_with(b" 200")
}
