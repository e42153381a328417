"""E04, E05, E07: how often, how many at once, how large."""

import concurrent.futures
import json
import socket
import time
import urllib.error
import urllib.request

import pytest
import sigv4
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from wire import Wire

MIB = 1 << 20
RATES = """
[limits]
enabled = true
users = ["SLWIDE=5000", "SLUSER02=5"]
"""
CONNECTIONS = 8


def burst(wire: Wire, path: str, count: int) -> tuple[list[int], float]:
    """Sends HEADs as fast as the connections take them, many in one go; the statuses and the seconds that it took."""
    headers = wire.signer.headers("HEAD", path, None, {"host": wire.host})
    head = wire.head("HEAD", path, headers)

    def some(number: int) -> list[int]:
        with wire.connect() as connection:
            connection.sendall(head * number)
            reader, statuses = connection.makefile("rb"), []
            while len(statuses) < number:
                line = reader.readline()
                assert line, "the connection ended"
                if line.startswith(b"HTTP/1.1 "):
                    statuses.append(int(line.split()[1]))
                elif line.lower().startswith(b"retry-after:"):
                    assert int(line.split(b":")[1]) >= 1
            return statuses

    shares = [count // CONNECTIONS + (number < count % CONNECTIONS) for number in range(CONNECTIONS)]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        statuses = [status for part in pool.map(some, shares) for status in part]
    return statuses, time.monotonic() - began


def admitted(statuses: list[int]) -> int:
    assert set(statuses) <= {200, 503}, set(statuses)
    return statuses.count(200)


@pytest.fixture
def shared(fresh):
    """A gateway with rates, and a bucket that everybody may read."""
    server = fresh(config=RATES)
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="shared")
    s3.put_object(Bucket="shared", Key="k", Body=b"x", ACL="public-read")
    for number in range(15):
        server.create_key(f"user{number}", f"SLUSER{number:02d}", f"secret-of-user-{number:02d}")
    server.create_key("wide", "SLWIDE", "secret-of-the-wide")
    return server


def of_user(server, number: int) -> Wire:
    return Wire(server.port, f"SLUSER{number:02d}", f"secret-of-user-{number:02d}")


def test_a_user_over_the_rate_is_told_so_and_others_are_not(shared):
    """E04: A sends 300 and gets its second's worth, B's 50 all pass, and the refusals are S3's and are counted."""
    statuses, seconds = burst(of_user(shared, 0), "/shared/k", 300)
    rate = 100 + 100 * seconds
    assert 0.9 * min(rate, 300) - 1 <= admitted(statuses) <= 1.1 * rate, (admitted(statuses), seconds)
    # On a machine that takes longer than that for 300 requests nobody is over the rate.
    assert statuses.count(503) > 0 or seconds > 1.5, seconds
    others, _ = burst(of_user(shared, 1), "/shared/k", 50)
    assert admitted(others) == 50
    assert shared.metrics()['sluice_rate_limited_total{limit="user"}'] == statuses.count(503)
    assert shared.metrics()['sluice_rate_limited_total{limit="bucket"}'] == 0
    # Nothing of it fills the log.
    assert "SlowDown" not in shared.log()


def test_users_share_the_rate_of_a_bucket(shared):
    """E04: fifteen users with 100 each, and a bucket that takes 1000 a second."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda number: burst(of_user(shared, number), "/shared/k", 100)[0], range(15)))
    seconds = time.monotonic() - began
    total = sum(admitted(statuses) for statuses in answers)
    assert 0.9 * 1000 <= total <= min(1.1 * (1000 + 1000 * seconds), 1500), (total, seconds)


def test_a_refusal_is_what_sdks_back_off_for(shared):
    """503 SlowDown with Retry-After, which boto3 retries by itself."""
    answer = of_user(shared, 2).send("GET", "/shared/k")
    deadline = time.monotonic() + 20
    while answer.status == 200 and time.monotonic() < deadline:
        burst(of_user(shared, 2), "/shared/k", 40)
        answer = of_user(shared, 2).send("GET", "/shared/k")
    answer.is_error(503, "SlowDown", "/shared/k")
    assert int(answer.header("retry-after")) >= 1
    client = boto3_client(shared, "SLUSER02", "secret-of-user-02", retries={"max_attempts": 5, "mode": "standard"})
    assert client.get_object(Bucket="shared", Key="k")["Body"].read() == b"x"


def test_one_key_has_a_rate_of_its_own(shared):
    """`limits.users` sets it; the bucket's rate still holds."""
    wire = Wire(shared.port, "SLWIDE", "secret-of-the-wide")
    # Less than the bucket takes at once.
    statuses, _ = burst(wire, "/shared/k", 600)
    assert admitted(statuses) == 600


def test_a_bad_signature_takes_nothing_from_a_key(shared):
    """Whoever guesses cannot use up what a key may."""
    wrong = Wire(shared.port, "SLUSER03", "not-the-secret")
    statuses, _ = burst(wrong, "/shared/k", 300)
    assert set(statuses) == {403}
    assert admitted(burst(of_user(shared, 3), "/shared/k", 50)[0]) == 50


def test_by_default_nobody_is_limited(local, request):
    """E04, off: no rejection."""
    boto3_client(local).create_bucket(Bucket="no-rates")
    statuses, _ = burst(Wire(local.port, ACCESS_KEY, SECRET_KEY), "/no-rates", 1500)
    assert statuses == [200] * 1500


def test_a_thousand_at_once(fresh):
    """E05: of 1100 slow readers 1000 are let in, and 100 are told so within 50 ms each; health and metrics answer all the while."""
    server = fresh(config="[server]\nmax_concurrent_requests = 1000\nmax_connections = 2000\n[default_mount]\nprovider = \"memory\"\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="slow")
    s3.put_object(Bucket="slow", Key="k", Body=bytes(16 * MIB))
    headers = wire.signer.headers("GET", "/slow/k", None, {"host": wire.host})
    head = wire.head("GET", "/slow/k", headers)
    held = []
    try:
        for _ in range(1000):
            connection = socket.socket()
            # A small window: most of the object stays with the gateway.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head)
            held.append(connection)
        for connection in held:
            assert connection.recv(12) == b"HTTP/1.1 200", "one of the thousand was refused"
        assert server.metric("sluice_http_requests_in_flight") == 1000
        waits = []
        for _ in range(100):
            with wire.connect() as connection:
                began = time.monotonic()
                connection.sendall(head)
                answer = wire.read(connection)
                waits.append(time.monotonic() - began)
            answer.is_error(503, "SlowDown", "/slow/k")
            assert int(answer.header("retry-after")) >= 1
        # One may be held up by the scheduler of a busy machine.
        assert sorted(waits)[97] < 0.05, sorted(waits)[-5:]
        for path in ("/health/live", "/health/ready", "/metrics"):
            began = time.monotonic()
            assert server.admin_get(path)[0] == 200
            assert time.monotonic() - began < 0.1, path
    finally:
        for connection in held:
            connection.close()
    server.wait_for_metric("sluice_http_requests_in_flight", 0, 10)
    assert s3.get_object(Bucket="slow", Key="k")["ContentLength"] == 16 * MIB


def test_admin_bodies_have_a_limit(local):
    """E07: 2 MiB, by the declared and by the actual length."""
    token = (local.data_dir / "admin.token").read_text().strip()
    for framing in ("declared", "chunked"):
        body = json.dumps({"name": "x" * 3 * MIB}).encode()
        given = iter([body]) if framing == "chunked" else body
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        request = urllib.request.Request(f"{local.admin}/api/v1/keys", given, headers, method="POST")
        if framing == "chunked":
            request.add_header("transfer-encoding", "chunked")
        with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)) as refused:
            urllib.request.urlopen(request, timeout=10)
        if isinstance(refused.value, urllib.error.HTTPError):
            assert refused.value.code == 413


def test_the_strict_profile(fresh):
    """E07: a limit of 256 MiB is the last byte that fits, declared or not, and what is refused leaves no object."""
    server = fresh(config=f"[s3]\nmax_write_size_bytes = {8 * MIB}\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="strict")
    fits, over = bytes(8 * MIB), bytes(8 * MIB + 1)
    assert wire.send("PUT", "/strict/fits", fits).status == 200
    wire.send("PUT", "/strict/over", over, headers={"expect": "100-continue"}).is_error(400, "EntityTooLarge")
    # With no length but that of its frames.
    chunks = [over[at : at + MIB] for at in range(0, len(over), MIB)]
    answer = wire.chunked("/strict/chunked", chunks, sigv4.UNSIGNED_TRAILER, "CRC32")
    answer.is_error(400, "EntityTooLarge")
    answer = wire.chunked("/strict/lied", chunks, sigv4.UNSIGNED_TRAILER, "CRC32", declared=100)
    assert answer.status == 400, answer.status
    upload = s3.create_multipart_upload(Bucket="strict", Key="parts")["UploadId"]
    query = {"partNumber": "1", "uploadId": upload}
    wire.send("PUT", "/strict/parts", over, query=query).is_error(400, "EntityTooLarge")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="strict")["Contents"]] == ["fits"]
