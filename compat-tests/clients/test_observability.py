"""E06, E21: what operators see: metrics, traces, the audit log, slow operations, statistics, alerts."""

import concurrent.futures
import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import boto3
import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from gateway import REGION, Gateway
from line import Line
from pki import Authority
from wire import Wire

MIB = 1 << 20


def admin(server: Gateway, method: str, path: str, token: bool = True) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {(server.data_dir / 'admin.token').read_text().strip()}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(server.admin + path, None, headers, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def flood(server: Gateway, targets: list[str]) -> None:
    """HEADs of targets as they stand, many on each connection."""
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)

    def some(part: list[str]) -> None:
        with wire.connect() as connection:
            sender = threading.Thread(
                target=lambda: connection.sendall(b"".join(wire.head("HEAD", target, {"host": wire.host}) for target in part))
            )
            sender.start()
            reader, seen = connection.makefile("rb"), 0
            while seen < len(part):
                line = reader.readline()
                assert line
                seen += line.startswith(b"HTTP/1.1 ")
            sender.join()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(some, [targets[at::8] for at in range(8)]))


def test_series_are_bounded_and_everything_is_counted(fresh, tmp_path):
    """E06: 10 000 random keys and 1000 unknown paths make fewer than 500 series; 401, 403, 503 and 413 are counted."""
    server = fresh(config="[s3]\nmax_write_size_bytes = 1000\n[limits]\nenabled = true\nusers = [\"SLONE=1\"]\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    for number in range(30):
        s3.create_bucket(Bucket=f"bucket-{number}")
        s3.put_object(Bucket=f"bucket-{number}", Key="k", Body=b"x")
        s3.get_object(Bucket=f"bucket-{number}", Key="k")["Body"].read()
        s3.list_objects_v2(Bucket=f"bucket-{number}")
    server.create_key("one", "SLONE", "secret-of-the-one")
    one = Wire(server.port, "SLONE", "secret-of-the-one")
    assert 503 in [one.send("GET", "/").status for _ in range(5)]
    flood(server, [f"/bucket-0/random-{number}-key" for number in range(10_000)])
    flood(server, [f"/nothing-{number}/x?{number}=y" for number in range(1000)])
    assert wire.send("PUT", "/bucket-0/large", bytes(2000)).status == 400
    assert admin(server, "GET", "/api/v1/keys", token=False)[0] == 401
    series = server.metrics()
    assert len(series) < 500, len(series)
    names = {name.split("{")[0] for name in series}
    for wanted in (
        "sluice_http_requests_total", "sluice_http_request_duration_seconds_bucket", "sluice_ttfb_seconds_bucket", "sluice_errors_total",
        "sluice_token_cache_hits_total", "sluice_token_cache_misses_total", "sluice_open_handles", "process_resident_memory_bytes",
        "sluice_rate_limited_total", "sluice_mount_calls_total", "sluice_mount_answer_seconds_bucket", "sluice_blocking_queue_depth",
    ):  # fmt: skip
        assert wanted in names, wanted
    assert not any("random-" in name or "nothing-" in name for name in series)
    codes = {name: value for name, value in series.items() if name.startswith("sluice_errors_total")}
    for code in ("SlowDown", "EntityTooLarge", "AccessDenied"):
        assert any(f'"{code}"' in name for name in codes), codes
    print(f"{len(series)} series")


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does; by TLS with a certificate and its key."""

    def __init__(self, tls: ssl.SSLContext | None = None):
        self.bodies: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def text(self) -> bytes:
        return b"".join(self.bodies)


class Traced(Gateway):
    """A gateway that sends spans."""

    collector: Collector

    def _environment(self):
        env = super()._environment()
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{self.collector.scheme}://127.0.0.1:{self.collector.server_address[1]}"
        return env


def test_a_span_for_each_request_and_the_last_is_flushed():
    """E21: spans of all requests have arrived when the process has ended; those that belong to a trace say so."""
    collector = Collector()
    server = Traced()
    server.collector = collector
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    try:
        server.start()
        s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
        s3.create_bucket(Bucket="traced")
        ids = [wire.send("PUT", "/traced/k", b"x").header("x-amz-request-id")]
        ids += [wire.send("GET", "/traced/k", late={"traceparent": f"00-{trace}-{parent}-01"}).header("x-amz-request-id")]
        ids += [wire.send("GET", "/traced/none").header("x-amz-request-id") for _ in range(20)]
        assert server.stop() == 0
    finally:
        server.remove()
        collector.shutdown()
    for request_id in ids:
        assert request_id.encode() in collector.text
    for name in (b"PutObject", b"GetObject", b"CreateBucket", b"NoSuchKey", b"service.instance.id", b"sluice"):
        assert name in collector.text, name
    # Ids are bytes on the wire.
    assert bytes.fromhex(trace) in collector.text and bytes.fromhex(parent) in collector.text


def test_spans_go_by_tls(tmp_path):
    """An https endpoint with a certificate of an authority that the environment names; the collector wants one of the gateway's too."""
    authority = Authority(tmp_path / "pki")
    cert, key = authority.issue("collector")
    own, own_key = authority.issue("gateway")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.cert))
    tls.load_cert_chain(cert, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    collector = Collector(tls)
    names = {"CERTIFICATE": authority.cert, "CLIENT_CERTIFICATE": own, "CLIENT_KEY": own_key}
    server = Traced(environment={f"OTEL_EXPORTER_OTLP_{name}": str(path) for name, path in names.items()})
    server.collector = collector
    try:
        server.start()
        boto3_client(server).create_bucket(Bucket="traced")
        assert server.stop() == 0
        assert b"CreateBucket" in collector.text, server.log()[-2000:]
        # A file that is not there is told at the start.
        server.environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(tmp_path / "none.pem")
        with pytest.raises(AssertionError, match="none.pem"):
            server.start()
    finally:
        server.remove()
        collector.shutdown()


def test_without_a_collector_there_is_no_exporter(local):
    """E21: unset, no thread of an exporter runs."""
    tasks = subprocess.run(["ls", f"/proc/{local.pid}/task"], capture_output=True, text=True, check=True).stdout.split()
    names = [open(f"/proc/{local.pid}/task/{task}/comm").read().strip() for task in tasks]
    assert not any("OpenTelemetry" in name for name in names), names


def test_a_collector_that_is_not_there_holds_nothing_up():
    """Requests do not wait for it, and the stop waits a bounded time."""
    collector = Collector()
    port = collector.server_address[1]
    collector.shutdown()
    collector.server_close()
    server = Traced()
    server.collector = type("Gone", (), {"server_address": ("127.0.0.1", port), "scheme": "http"})()
    try:
        server.start()
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="traced")
        for number in range(50):
            s3.put_object(Bucket="traced", Key=f"k{number}", Body=b"x")
        assert server.stop(timeout=15) == 0
    finally:
        server.remove()


def lines(server: Gateway, target: str) -> list[dict]:
    found = []
    for line in server.log().splitlines():
        if f'"target":"{target}' in line:
            found.append(json.loads(line))
    return found


def wait_for_lines(server: Gateway, target: str, count: int) -> list[dict]:
    deadline = time.monotonic() + 60
    while len(found := lines(server, target)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_the_audit_log(fresh):
    """Every change is told with who, what and how it ended, refused ones too; reading is not."""
    server = fresh(config="[log]\naudit = true\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="audited")
    s3.put_object(Bucket="audited", Key="a b", Body=b"x")
    s3.get_object(Bucket="audited", Key="a b")["Body"].read()
    s3.delete_object(Bucket="audited", Key="a b")
    assert Wire(server.port, ACCESS_KEY, "wrong").send("PUT", "/audited/no", b"x").status == 403
    told = wait_for_lines(server, "sluice::audit::data", 4)
    assert [(one["op"], one["status"]) for one in told] == [
        ("CreateBucket", 200), ("PutObject", 200), ("DeleteObject", 204), ("PutObject", 403),
    ]  # fmt: skip
    assert told[1]["who"] == ACCESS_KEY and told[1]["key"] == "a b" and told[1]["resource"] == "audited" and told[1]["request_id"]
    server.create_key("somebody", "SLSOME", "secret-of-somebody")
    admin(server, "POST", "/api/v1/keys", token=False)
    iam = boto3.client(
        "iam", endpoint_url=server.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY
    )
    iam.create_user(UserName="reader")
    told = wait_for_lines(server, "sluice::audit::admin", 3)
    assert [(one["op"], one["resource"], one["status"], one["who"]) for one in told] == [
        ("POST", "/api/v1/keys", 201, "admin"), ("POST", "/api/v1/keys", 401, ""), ("CreateUser", "", 200, ACCESS_KEY),
    ]  # fmt: skip
    assert "secret-of-somebody" not in server.log() and "wrong" not in server.log()
    assert wire.send("GET", "/").status == 200


def test_slow_operations_are_told_with_their_request_id(fresh):
    """What the gateway itself takes long for; a slow client is not its doing."""
    server = fresh(config="[log]\nslow_ms = 1\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="slow")
    answer = wire.send("PUT", "/slow/k", bytes(8 * MIB))
    # On a busy machine others are slow too.
    deadline = time.monotonic() + 60
    while not (told := [one for one in lines(server, "sluice::telemetry::notices") if one["request_id"] == answer.header("x-amz-request-id")]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told[0]["op"] == "PutObject" and told[0]["bucket"] == "slow" and told[0]["ms"] >= 1
    assert server.metric("sluice_slow_operations_total") >= 1
    patient = fresh(config="[log]\nslow_ms = 500\n")
    s3, wire = boto3_client(patient), Wire(patient.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="slow")
    body = b"x" * 1000
    headers = wire.signer.headers("PUT", "/slow/k", None, {"host": wire.host, "content-length": "1000"})
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", "/slow/k", headers) + body[:500])
        time.sleep(2)
        connection.sendall(body[500:])
        assert wire.read(connection, "PUT").status == 200
    # What a busy machine takes for it is the gateway's; the client's two seconds are not.
    assert all(one["ms"] < 2000 for one in lines(patient, "sluice::telemetry::notices"))


def test_statistics_of_operations(fresh):
    """As CSV and as JSON, reset on request, and gone when they are off."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="counted")
    for number in range(20):
        s3.put_object(Bucket="counted", Key=f"k{number}", Body=b"x")
    status, text = admin(server, "GET", "/api/v1/opstats")
    told = json.loads(text)
    assert status == 200 and told["PutObject"]["count"] == 20 and set(told["PutObject"]) == {"count", "total", "avg", "p95", "p99"}
    assert 0 < told["PutObject"]["avg"] <= told["PutObject"]["p95"] <= told["PutObject"]["p99"]
    status, text = admin(server, "GET", "/api/v1/opstats?format=csv")
    rows = text.splitlines()
    assert rows[0] == "timestamp,operation,duration_ms" and len(rows) == 22
    when, operation, ms = rows[-1].split(",")
    assert operation == "PutObject" and float(ms) > 0 and abs(int(when) / 1000 - time.time()) < 60
    assert admin(server, "DELETE", "/api/v1/opstats")[0] == 204
    assert json.loads(admin(server, "GET", "/api/v1/opstats")[1]) == {}
    off = fresh(config="[log]\nop_stats = false\n")
    assert admin(off, "GET", "/api/v1/opstats")[0] == 404


def alerts_of(server: Gateway) -> dict[str, dict]:
    """The alerts that hold, by trigger; each says what to do about it."""
    alerts = json.loads(admin(server, "GET", "/api/v1/alerts")[1])["alerts"]
    for alert in alerts:
        assert set(alert) == {"trigger", "severity", "message", "suggested_action"} and all(alert.values()), alert
    return {alert["trigger"]: alert for alert in alerts}


def test_requests_that_fail_are_an_alert(fresh):
    """Quiet by default; told when a mount's folder is taken away from under it."""
    server = fresh()
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="calm")
    for _ in range(30):
        wire.send("GET", "/calm")
    assert not {"ErrorRate", "CacheHitRate", "MemoryUsage"} & alerts_of(server).keys()
    # A mount whose folder is taken away from under it.
    shutil.rmtree(server.data_dir / "buckets" / "calm")
    (server.data_dir / "buckets" / "calm").write_text("no folder")
    failed = [wire.send("PUT", f"/calm/k{number}", b"x").status for number in range(5)]
    assert all(status >= 500 for status in failed), failed
    assert alerts_of(server)["ErrorRate"]["severity"] == "Critical"


def test_slow_storage_is_an_alert(fresh, tmp_path):
    """A mount whose every answer takes 600 ms longer."""
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[far]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    far, server = fresh(), fresh()
    boto3_client(far).create_bucket(Bucket="far")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="near")
    line = Line("127.0.0.1", far.port)
    where = {"endpoint": line.endpoint, "bucket": "far", "credentials_file": str(credentials), "profile": "far"}
    server.mount("near", "slow/", "s3", **where)
    try:
        s3.put_object(Bucket="near", Key="slow/k", Body=b"x")
        line.delay = 0.6
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: wire.send("HEAD", "/near/slow/k").status, range(25)))
        assert answers == [200] * 25
        alert = alerts_of(server)["LatencyThreshold"]
        assert alert["severity"] == "Warning" and alert["message"].startswith("High latency detected")
        assert alert["suggested_action"] == "Check runtime pool sizes and cache hit rates"
    finally:
        line.close()


def test_keys_that_nobody_knows_are_an_alert(fresh):
    """Many requests, each signed with a key of its own that does not exist: the cache of keys is of no use."""
    server = fresh()
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    strangers = [Wire(server.port, f"SLSTRANGER{number:010d}", "no-secret-of-anybody").signer for number in range(1200)]
    targets = [signer.presign("HEAD", wire.host, "/none") for signer in strangers]
    flood(server, [target.removeprefix(f"http://{wire.host}") for target in targets])
    assert alerts_of(server)["CacheHitRate"]["severity"] == "Warning"


def test_memory_that_runs_out_is_an_alert(fresh):
    """A gateway that is meant to have less than it uses."""
    server = fresh(config="[admin]\nmemory_limit_bytes = 1000000\n")
    assert alerts_of(server)["MemoryUsage"]["severity"] == "Warning"
