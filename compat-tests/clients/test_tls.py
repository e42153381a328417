"""TLS, HTTP/2, client certificates, proxies in front, the PROXY protocol; certificates that change while the gateway runs."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import time

import boto3
import botocore.config
import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client, program
from gateway import REGION, Gateway
from pki import Authority, Pki
from test_doctor import doctor
from wire import Wire

MIB = 1 << 20


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


def client(server: Gateway, pki: Pki, **settings):
    return boto3.client(
        "s3",
        endpoint_url=f"https://127.0.0.1:{server.port}",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        verify=str(pki.authority.cert),
        config=botocore.config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **settings),
    )


def curl(server: Gateway, pki: Pki, path: str, *options: str, check: bool = True) -> subprocess.CompletedProcess:
    command = [program("curl"), "--silent", "--show-error", "--cacert", str(pki.authority.cert), "--max-time", "60"]
    command += [*options, path if path.startswith("https:") else f"https://127.0.0.1:{server.port}{path}"]
    return subprocess.run(command, capture_output=True, check=check, stdin=subprocess.DEVNULL, timeout=90)


def shown_certificate(server: Gateway, port: int = 0) -> str:
    """The name in the certificate that the gateway shows now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port or server.port), timeout=10) as plain, context.wrap_socket(plain) as tls:
        der = tls.getpeercert(binary_form=True)
    done = subprocess.run(
        [program("openssl"), "x509", "-inform", "der", "-noout", "-subject"], input=der, capture_output=True, check=True, timeout=30
    )
    return done.stdout.decode().split("=")[-1].strip()


def test_objects_go_over_tls_and_http2(fresh, pki):
    """The same bytes by HTTP/1.1 and HTTP/2, large and small, both ways."""
    server = fresh(config=pki.config())
    s3 = client(server, pki)
    s3.create_bucket(Bucket="safe")
    body = os.urandom(24 * MIB)
    s3.put_object(Bucket="safe", Key="large", Body=body, Metadata={"m": "v"})
    got = s3.get_object(Bucket="safe", Key="large")
    assert got["Body"].read() == body and got["Metadata"] == {"m": "v"}

    def link(method: str, key: str) -> str:
        return s3.generate_presigned_url(method, {"Bucket": "safe", "Key": key})

    for version in ("--http1.1", "--http2"):
        done = curl(server, pki, link("get_object", "large"), version, "--write-out", "%{stderr}%{http_version}")
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(body).digest()
        assert done.stderr.decode().strip() == ("2" if version == "--http2" else "1.1")
    source = pki.authority.folder / "upload"
    source.write_bytes(body)
    done = curl(server, pki, link("put_object", "by2"), "--http2", "--upload-file", str(source),
                "--write-out", "%{http_code} %{http_version}")  # fmt: skip
    assert done.stdout.decode().endswith("200 2"), done.stdout
    assert s3.get_object(Bucket="safe", Key="by2")["Body"].read() == body
    # Errors, ranges, heads and presigned links too.
    assert b"<Code>NoSuchKey</Code>" in curl(server, pki, link("get_object", "none"), "--http2").stdout
    assert curl(server, pki, link("get_object", "large"), "--http2", "--range", "5-9").stdout == body[5:10]
    head = curl(server, pki, link("head_object", "large"), "--http2", "--head").stdout.decode().lower()
    assert head.startswith("http/2 200") and f"content-length: {len(body)}" in head and "x-sluice-instance: " in head


def test_many_streams_of_one_connection(fresh, pki):
    """curl multiplexes: fifty at once, each with its own answer."""
    server = fresh(config=pki.config())
    s3 = client(server, pki)
    s3.create_bucket(Bucket="many")
    names = [f"k{number}" for number in range(50)]
    for name in names:
        s3.put_object(Bucket="many", Key=name, Body=name.encode() * 1000)
    out = pki.authority.folder / "out"
    out.mkdir()
    links = [s3.generate_presigned_url("get_object", {"Bucket": "many", "Key": name}) for name in names]
    command = [program("curl"), "--silent", "--http2", "--parallel", "--parallel-max", "50", "--cacert", str(pki.authority.cert)]
    for name, link in zip(names, links):
        command += ["--output", str(out / name), link]
    subprocess.run(command, check=True, timeout=60)
    assert all((out / name).read_bytes() == name.encode() * 1000 for name in names)


def test_an_http2_client_that_stops_reading_is_cut_and_a_slow_one_is_not(fresh, pki):
    """Idle means that nothing moves: a second and more without a byte, and the request gives its place back."""
    server = fresh(config=pki.config("idle_timeout_secs = 2"))
    s3 = client(server, pki)
    s3.create_bucket(Bucket="slow")
    s3.put_object(Bucket="slow", Key="k", Body=bytes(32 * MIB))
    link = s3.generate_presigned_url("get_object", {"Bucket": "slow", "Key": "k"})
    command = [program("curl"), "--silent", "--http2", "--cacert", str(pki.authority.cert), "--output", os.devnull]
    slow = subprocess.Popen([*command, "--limit-rate", "5M", "--write-out", "%{size_download}", link], stdout=subprocess.PIPE)
    stopped = subprocess.Popen([*command, "--limit-rate", "1M", link])
    try:
        server.wait_for_metric("sluice_http_requests_in_flight", 2, 10)
        stopped.send_signal(signal.SIGSTOP)
        assert slow.communicate(timeout=60)[0] == str(32 * MIB).encode(), "a client that moves was cut"
        server.wait_for_metric("sluice_http_requests_in_flight", 0, 10)
    finally:
        stopped.kill()
        stopped.wait()
        slow.kill()
        slow.wait()


def test_a_new_certificate_is_shown_without_a_restart(fresh, pki):
    """On SIGHUP at once; by itself when the files change; a bad one is refused and the one before still shown."""
    server = fresh(config=pki.config("watch_secs = 1"))
    assert shown_certificate(server) == "first"
    s3 = client(server, pki, max_pool_connections=1)
    s3.create_bucket(Bucket="kept")
    pki.install("second")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: shown_certificate(server) == "second", 5)
    pki.install("third")
    wait_until(lambda: shown_certificate(server) == "third", 15)
    # The connection that was open goes on.
    s3.list_objects_v2(Bucket="kept")
    pki.cert.write_text("no certificate")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: "the one before still holds" in server.log(), 10)
    assert shown_certificate(server) == "third"


def test_the_admin_listener_by_tls(pki, tmp_path):
    """`admin.tls_cert`: commands believe the certificate that the gateway shows, nobody else does, and a new one is taken over."""
    other = Pki(tmp_path / "admin")
    more = f'[admin]\ntls_cert = "{other.cert}"\ntls_key = "{other.key}"\n'
    server = TlsGateway(config=pki.config("watch_secs = 0\n" + more), authority=other.authority.cert)
    try:
        server.start()
        assert server.admin_get("/health/live")[0] == 200 and server.admin_get("/metrics")[0] == 200
        with socket.create_connection(("127.0.0.1", server.admin_port), timeout=10) as plain:
            plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" not in plain.recv(100)
        server.create_key("by-tls", "SLBYTLS", "secret-of-the-one")
        assert "by-tls" in server.command("key", "ls").stdout
        # With nothing but the data directory: what runs there says where it is and what it shows.
        listed = subprocess.run(
            [str(server.program), "key", "ls", "--data-dir", str(server.data_dir)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        assert listed.returncode == 0 and "by-tls" in listed.stdout, listed.stderr
        # Both listeners, as the configuration has them.
        place = ("--config", str(server.work / "sluice.toml"))
        seen = doctor(server, *place, environment={"SLUICE_SERVER_LISTEN": f"127.0.0.1:{server.port}"})
        assert seen.returncode == 0 and seen.stdout.endswith("0 failed, 2 warnings\n"), seen.stdout + seen.stderr
        assert seen.stdout.count("ends within fourteen days") == 2, seen.stdout
        assert doctor(server, "--health", *place).returncode == 0
        # A stranger at the address: not the certificate of the configuration, nor of an authority that anybody trusts.
        endpoint = ("--endpoint", f"https://127.0.0.1:{server.admin_port}")
        strange = doctor(server, *place, *endpoint)
        assert strange.returncode == 1 and "UnknownIssuer" in strange.stdout and "AWS_CA_BUNDLE" in strange.stdout, strange.stdout
        believed = doctor(server, *place, *endpoint, environment={"AWS_CA_BUNDLE": str(other.authority.cert)})
        assert "not an S3 endpoint" in believed.stdout, believed.stdout
        other.install("second")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: shown_certificate(server, server.admin_port) == "second", 10)
        assert "by-tls" in server.command("key", "ls").stdout
        assert shown_certificate(server) == "first"
        other.cert.write_text("no certificate")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "the one before still holds" in server.log(), 10)
        assert shown_certificate(server, server.admin_port) == "second"
        assert server.stop() == 0
    finally:
        server.remove()


class TlsGateway(Gateway):
    """A gateway whose admin listener speaks TLS."""

    def __init__(self, authority: pathlib.Path, **settings):
        super().__init__(**settings)
        self.context = ssl.create_default_context(cafile=str(authority))

    @property
    def admin(self) -> str:
        return f"https://127.0.0.1:{self.admin_port}"


def wait_until(holds, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_client_certificates(fresh, pki, tmp_path):
    """Required: nobody without one of the right authority. The gateway counts who did not get through."""
    server = fresh(config=pki.config(f'tls_client_auth = "required"\ntls_client_ca = "{pki.authority.cert}"'))
    cert, key = pki.authority.issue("somebody")
    assert curl(server, pki, "/", "--cert", str(cert), "--key", str(key)).stdout.startswith(b"<?xml")
    assert curl(server, pki, "/", check=False).returncode != 0
    other, other_key = Authority(tmp_path / "other").issue("stranger")
    assert curl(server, pki, "/", "--cert", str(other), "--key", str(other_key), check=False).returncode != 0
    assert server.metric("sluice_tls_handshakes_failed_total") >= 2


def test_plain_requests_to_a_tls_listener_and_silence(fresh, pki):
    """Neither gets anywhere, and who says nothing is let go after the idle time."""
    server = fresh(config=pki.config("idle_timeout_secs = 1"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP/1.1 200" not in plain.recv(1000)
        assert silent.recv(1) == b""


SECURE_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::locked/*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}  # fmt: skip


def source_only(address: str) -> dict:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::locked/*",
                "Condition": {"IpAddress": {"aws:SourceIp": address}},
            }
        ],
    }  # fmt: skip


def test_policies_see_the_transport(fresh, pki):
    """aws:SecureTransport is true here, and a proxy that is trusted may say so elsewhere."""
    server = fresh(config=pki.config())
    s3 = client(server, pki)
    s3.create_bucket(Bucket="locked")
    s3.put_object(Bucket="locked", Key="k", Body=b"x")
    s3.put_bucket_policy(Bucket="locked", Policy=json.dumps(SECURE_ONLY))
    assert s3.get_object(Bucket="locked", Key="k")["Body"].read() == b"x"
    behind = fresh(config='[server]\ntrusted_proxies = ["127.0.0.0/8"]\n')
    open_ = fresh()
    for gateway in (behind, open_):
        s3 = boto3_client(gateway)
        s3.create_bucket(Bucket="locked")
        s3.put_object(Bucket="locked", Key="k", Body=b"x")
        s3.put_bucket_policy(Bucket="locked", Policy=json.dumps(SECURE_ONLY))
    for gateway, headers, status in (
        (behind, {}, 403),
        (behind, {"x-forwarded-proto": "https"}, 200),
        (open_, {"x-forwarded-proto": "https"}, 403),
    ):
        wire = Wire(gateway.port, ACCESS_KEY, SECRET_KEY)
        assert wire.send("GET", "/locked/k", late=headers).status == status, headers


def test_addresses_and_hosts_behind_a_proxy(fresh):
    """aws:SourceIp is the client's, as the trusted proxy tells it; nobody else is believed. The host is the one that was signed."""
    server = fresh(config='[server]\ntrusted_proxies = ["127.0.0.1"]\n')
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="locked")
    s3.put_object(Bucket="locked", Key="k", Body=b"x")
    s3.put_bucket_policy(Bucket="locked", Policy=json.dumps(source_only("192.0.2.0/24")))
    assert wire.plain("GET", "/locked/k").status == 403
    assert wire.plain("GET", "/locked/k", headers={"x-forwarded-for": "192.0.2.7"}).status == 200
    assert wire.plain("GET", "/locked/k", headers={"x-forwarded-for": "192.0.2.7, 198.51.100.1"}).status == 403
    # Signed for the public name; the proxy asks for another.
    signed = wire.signer.headers("GET", "/locked/k", None, {"host": "s3.example.org"})
    sent = {**signed, "host": f"127.0.0.1:{server.port}", "x-forwarded-host": "s3.example.org"}
    with wire.connect() as connection:
        connection.sendall(wire.head("GET", "/locked/k", sent))
        assert wire.read(connection).status == 200
    untrusted = fresh()
    s3, wire = boto3_client(untrusted), Wire(untrusted.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="locked")
    s3.put_object(Bucket="locked", Key="k", Body=b"x")
    s3.put_bucket_policy(Bucket="locked", Policy=json.dumps(source_only("192.0.2.0/24")))
    assert wire.plain("GET", "/locked/k", headers={"x-forwarded-for": "192.0.2.7"}).status == 403


def proxy_header(source: str, command: int = 1) -> bytes:
    """A header of the PROXY protocol, version 2, for IPv4."""
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 4711, 9000)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, 0x11]) + struct.pack(">H", len(addresses)) + addresses


def test_the_proxy_protocol(fresh):
    """The address is the one in the header; a connection without one, or from elsewhere, is closed."""
    server = fresh(config='[server]\ntrusted_proxies = ["127.0.0.1"]\nproxy_protocol = true\n')
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)

    def send(prefix: bytes, method: str, path: str, body: bytes = b"", sign: bool = True):
        headers = {"host": wire.host, "content-length": str(len(body))}
        headers = wire.signer.headers(method, path, {"policy": ""} if path.endswith("policy") else None, headers) if sign else headers
        with wire.connect() as connection:
            connection.sendall(prefix + wire.head(method, path, headers) + body)
            return wire.read(connection, method)

    here = proxy_header("198.51.100.9")
    assert send(here, "PUT", "/locked").status == 200
    assert send(here, "PUT", "/locked/k", b"x").status == 200
    policy = json.dumps(source_only("192.0.2.0/24")).encode()
    headers = {"host": wire.host, "content-length": str(len(policy))}
    headers = wire.signer.headers("PUT", "/locked", {"policy": ""}, headers)
    with wire.connect() as connection:
        connection.sendall(here + wire.head("PUT", "/locked?policy=", headers) + policy)
        assert wire.read(connection, "PUT").status == 204
    assert send(here, "GET", "/locked/k", sign=False).status == 403
    assert send(proxy_header("192.0.2.3"), "GET", "/locked/k", sign=False).status == 200
    # The proxy's own health check has the connection's address.
    assert send(proxy_header("192.0.2.3", command=0), "GET", "/locked/k", sign=False).status == 403
    with wire.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
    refused = Gateway(config="[server]\nproxy_protocol = true\n")
    try:
        with pytest.raises(AssertionError, match="trusted_proxies"):
            refused.start()
    finally:
        refused.remove()
