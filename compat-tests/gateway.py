"""The gateway under test: the real binary on loopback ports of its own, with a data directory of its own.

Used by the client tests, by s3-tests.sh and by the bench. A process is only ever ended by the pid that was started here.
"""

import collections
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent

ACCESS_KEY = "SLUICETESTROOT000001"
SECRET_KEY = "a/test+secret/of/the/root/identity/000001"
REGION = "us-east-1"

# Variables of the machine that would lead a client (or the gateway) somewhere else than to the gateway under test.
_FOREIGN = re.compile(r"^(AWS_|SLUICE_|RCLONE_|S3_|MINIO_|MC_)|_CA_BUNDLE$|^(http|https|all)_proxy$", re.IGNORECASE)


def target_dir() -> pathlib.Path:
    """Where cargo builds."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


# The binary under test: SLUICE_BIN, or the release build. Read once: the tests clean the environment.
BINARY = pathlib.Path(os.environ.get("SLUICE_BIN") or target_dir() / "release" / "sluice").resolve()

# The server that keeps the metadata, as a URL; None: each gateway keeps it in its data directory.
POSTGRES = os.environ.get("SLUICE_TEST_POSTGRES") or None


def clean_environment() -> dict[str, str]:
    """The environment without what belongs to the machine's own S3 set-up."""
    env = {name: value for name, value in os.environ.items() if not _FOREIGN.search(name)}
    env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost"
    return env


# Tests that run side by side (pytest -n) take their ports from ranges of their own, below those of outgoing connections.
_PORTS = range(12_000, 32_000)
_WORKERS = 8
# Those that were handed out and may not be bound yet.
_TAKEN: collections.deque[int] = collections.deque(maxlen=len(_PORTS) // _WORKERS // 2)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and none of those that were answered before."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or os.getpid()) % _WORKERS
    share = len(_PORTS) // _WORKERS
    while True:
        port = _PORTS[worker * share + random.randrange(share)]
        if port in _TAKEN:
            continue
        with socket.socket() as probe:
            # As the gateway binds: what is only closing does not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _TAKEN.append(port)
        return port


class Gateway:
    """One `sluice serve`. A context manager: started on entry, ended on exit."""

    def __init__(
        self,
        config: str = "",
        data_dir: pathlib.Path | None = None,
        program: pathlib.Path | None = None,
        store: pathlib.Path | None = None,
        environment: dict[str, str] | None = None,
    ):
        # `store`: a file that several gateways share as their metadata store (on a server: the name of what they share).
        self.store = store
        self.environment = environment or {}
        self.program = program or BINARY
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
        self.data_dir = data_dir or self.work / "data"
        self.config = config
        self.log_path = self.work / "gateway.log"
        self.process: subprocess.Popen | None = None
        # Whom to believe where the admin listener speaks TLS.
        self.context: ssl.SSLContext | None = None
        self.port = free_port()
        self.admin_port = free_port()

    # Where it is

    @property
    def endpoint(self) -> str:
        """The S3 endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """The admin listener."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None, "the gateway is not running"
        return self.process.pid

    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # Start and end

    def _environment(self) -> dict[str, str]:
        env = clean_environment()
        env["SLUICE_ROOT_ACCESS_KEY"] = ACCESS_KEY
        env["SLUICE_ROOT_SECRET_KEY"] = SECRET_KEY
        env["NO_COLOR"] = "1"
        env.update(self.environment)
        if POSTGRES:
            env["SLUICE_META_DSN"] = self._schema()
        elif self.store:
            env["SLUICE_META_DSN"] = f"sqlite:{self.store}"
        return env

    def _schema(self) -> str:
        """The metadata store of this data directory: a schema of its own on the server."""
        name = "gateway_" + hashlib.sha256(str(self.store or self.data_dir).encode()).hexdigest()[:16]
        command = ["psql", "--quiet", "--no-psqlrc", "--command", f"CREATE SCHEMA IF NOT EXISTS {name}", POSTGRES]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
        return f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-c%20search_path%3D{name}"

    def _where(self) -> list[str]:
        where = ["--data-dir", str(self.data_dir)]
        if self.config:
            path = self.work / "sluice.toml"
            path.write_text(self.config)
            where = ["--config", str(path), *where]
        return where

    def start(self, wait_secs: float = 60) -> "Gateway":
        """Starts the process and waits until it is ready."""
        command = [str(self.program), "serve", *self._where()]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(), cwd=self.work
            )
        deadline = time.monotonic() + wait_secs
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode} at its start:\n{self.log()[-4000:]}")
            try:
                with urllib.request.urlopen(f"{self.admin}/health/ready", timeout=2, context=self.context) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                pass
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the gateway was not ready within {wait_secs} s:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def terminate(self) -> None:
        """Asks it to drain."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Ends it as a power cut would: no clean-up of its own."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def stop(self, timeout: float = 60) -> int:
        """Drains it, and kills it when that takes too long."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.terminate()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> "Gateway":
        """Starts it again on the same data and ports."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Ends it and removes what it stored."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self) -> "Gateway":
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_exc) -> None:
        self.remove()

    # What can be asked of it

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Runs a subcommand of the binary against this gateway's store and admin listener."""
        command = [str(self.program), *arguments]
        if self.data_dir:
            command += self._where()
        if self.process is not None and self.process.poll() is None:
            command += ["--admin-listen", f"127.0.0.1:{self.admin_port}"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=self._environment(), cwd=self.work
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def create_key(self, name: str, access_key: str, secret_key: str) -> None:
        """Creates an identity of its own with this key."""
        self.command("key", "create", name, "--access-key", access_key, "--secret-key", secret_key)

    def mount(self, bucket: str, prefix: str, provider: str, /, **settings: str) -> None:
        """Mounts a provider into a bucket."""
        pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        self.command("mount", "add", bucket, prefix, provider, *pairs)

    def admin_get(self, path: str, timeout: float = 30) -> tuple[int, str]:
        """Status and body of a GET at the admin listener."""
        try:
            with urllib.request.urlopen(f"{self.admin}{path}", timeout=timeout, context=self.context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """The metrics, by series as printed."""
        status, text = self.admin_get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        series = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                series[name] = float(value)
        return series

    def metric(self, name: str) -> float:
        """The sum over all series of a metric; it must exist."""
        found = [value for series, value in self.metrics().items() if series.split("{")[0] == name]
        assert found, f"no metric {name} at /metrics"
        return sum(found)

    def wait_for_metric(self, name: str, wanted: float, seconds: float) -> None:
        """Waits until a metric has a value."""
        deadline = time.monotonic() + seconds
        while (now := self.metric(name)) != wanted:
            assert time.monotonic() < deadline, f"{name} is {now}, not {wanted}, after {seconds} s"
            time.sleep(0.02)

    def cpu_seconds(self) -> float:
        """User and system time that the process has used."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmRSS") -> int:
        """Resident bytes now (VmRSS) or at most so far (VmHWM)."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc/{self.pid}/status")
