"""E26, reload: what changes while the gateway runs, how fast, and what it leaves alone. Start and stop under a supervisor."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from gateway import Gateway, clean_environment, free_port
from wire import Wire

MIB = 1 << 20


def reload(server: Gateway) -> tuple[int, dict]:
    """POST /api/v1/reload; status and document."""
    token = (server.data_dir / "admin.token").read_text().strip()
    request = urllib.request.Request(f"{server.admin}/api/v1/reload", b"", {"authorization": f"Bearer {token}"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def write(server: Gateway, config: str) -> None:
    (server.work / "sluice.toml").write_text(config)


def test_limits_change_within_100_ms_and_requests_go_on(fresh):
    """E26: the new rate holds when the call is answered, which takes less than 100 ms; a download under way does not notice."""
    server = fresh(config="[server]\nwatch_secs = 0\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="live")
    body = os.urandom(16 * MIB)
    s3.put_object(Bucket="live", Key="k", Body=body)
    under_way = s3.get_object(Bucket="live", Key="k")["Body"]
    start = under_way.read(MIB)
    write(server, "[server]\nwatch_secs = 0\nmax_connections = 77\n[limits]\nenabled = true\nuser_per_sec = 1\n")
    began = time.monotonic()
    status, told = reload(server)
    seconds = time.monotonic() - began
    assert status == 200 and set(told["applied"]) == {"limits.enabled", "limits.user_per_sec"}, told
    assert told["restart"] == ["server.max_connections"]
    assert seconds < 0.1, seconds
    assert [wire.send("HEAD", "/live/k").status for _ in range(3)].count(503) >= 1
    assert start + under_way.read() == body
    write(server, "[server]\nwatch_secs = 0\n")
    assert reload(server)[0] == 200
    assert [wire.send("HEAD", "/live/k").status for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("config", ["[server\n", "[limits]\nuser_per_sec = 0\n", "[server]\nlissten = 1\n", "[log]\nlevel = \"x=loud\"\n"])
def test_a_bad_configuration_is_refused_and_the_old_one_kept(fresh, config):
    server = fresh(config="[server]\nwatch_secs = 0\n[limits]\nenabled = true\nuser_per_sec = 2\n")
    write(server, config)
    status, told = reload(server)
    assert status == 400 and told["error"]["code"] == "InvalidConfiguration" and "sluice.toml" in told["error"]["message"], told
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    assert [wire.send("HEAD", "/x").status for _ in range(9)].count(503) >= 1
    assert "the one before still holds" in server.log()


def test_the_log_level_changes_by_sighup_and_by_itself(fresh):
    """SIGHUP, and a file that is looked at."""
    server = fresh(config="[server]\nwatch_secs = 1\n")
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    wire.send("GET", "/")
    assert '"op":"ListBuckets"' not in server.log()
    write(server, "[server]\nwatch_secs = 1\n[log]\naccess = true\n")
    os.kill(server.pid, signal.SIGHUP)
    eventually(lambda: wire.send("GET", "/").status == 200 and '"op":"ListBuckets"' in server.log())
    write(server, "[server]\nwatch_secs = 1\n[log]\naccess = true\nlevel = \"debug\"\n")
    eventually(lambda: server.log().count("the configuration was read again") >= 2)


def eventually(holds, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_mount_is_there_at_once(fresh, tmp_path):
    """A mount that is added is seen by the next request, and new buckets land where the new configuration says."""
    server = fresh(config="[server]\nwatch_secs = 0\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="grows")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_bytes(b"was there")
    server.mount("grows", "more/", "local", root=str(tmp_path / "more"))
    assert s3.get_object(Bucket="grows", Key="more/file")["Body"].read() == b"was there"
    elsewhere = tmp_path / "elsewhere"
    write(server, f'[server]\nwatch_secs = 0\n[default_mount]\nroot = "{elsewhere}/{{bucket}}"\n')
    assert reload(server) == (200, {"applied": ["default_mount.root"], "restart": []})
    s3.create_bucket(Bucket="later")
    s3.put_object(Bucket="later", Key="k", Body=b"x")
    assert (elsewhere / "later" / "k").read_bytes() == b"x"


def test_readiness_goes_down_before_the_listener(fresh):
    """`server.drain_delay_secs`: for so long requests are still served while /health/ready says where not to send them."""
    server = fresh(config="[server]\ndrain_delay_secs = 3\n")
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    server.terminate()
    eventually(lambda: server.admin_get("/health/ready")[0] == 503, 3)
    assert wire.send("GET", "/").status == 200
    assert server.wait(20) == 0


def test_a_supervisor_passes_sockets_and_is_told(tmp_path):
    """LISTEN_FDS and NOTIFY_SOCKET: the listeners are the supervisor's, and it hears of readiness, reload and stop."""
    server = Gateway()
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(20)
    listeners = []
    for port in (server.port, server.admin_port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        listeners.append(listener)
    environment = {
        **clean_environment(), "SLUICE_ROOT_ACCESS_KEY": ACCESS_KEY, "SLUICE_ROOT_SECRET_KEY": SECRET_KEY,
        "NOTIFY_SOCKET": str(tmp_path / "notify"), "LISTEN_FDS": "2", "WATCHDOG_USEC": "1000000",
    }  # fmt: skip
    # As a supervisor does: the sockets become 3 and 4, and LISTEN_PID is the process itself.
    script = f'exec 3<&{listeners[0].fileno()} 4<&{listeners[1].fileno()}; export LISTEN_PID=$$; exec "$@"'
    other = free_port()
    command = [str(server.program), "serve", "--data-dir", str(server.data_dir), "--listen", f"127.0.0.1:{other}"]
    log = open(server.log_path, "wb")
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", *command], env=environment, pass_fds=[one.fileno() for one in listeners], stdout=log, stderr=log
    )
    try:
        assert "READY=1" in heard(notices, "READY=1")
        assert Wire(server.port, ACCESS_KEY, SECRET_KEY).send("GET", "/").status == 200
        assert server.admin_get("/health/ready")[0] == 200
        assert "WATCHDOG=1" in heard(notices, "WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert "RELOADING=1" in heard(notices, "RELOADING=1")
        assert "READY=1" in heard(notices, "READY=1")
        process.terminate()
        assert "STOPPING=1" in heard(notices, "STOPPING=1")
        assert process.wait(20) == 0, server.log()
        # The supervisor still listens: the next gateway loses no connection.
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    finally:
        process.kill()
        process.wait()
        for one in (*listeners, notices, log):
            one.close()
        server.remove()


def heard(notices: socket.socket, wanted: str) -> str:
    while wanted not in (text := notices.recv(4096).decode()):
        pass
    return text
