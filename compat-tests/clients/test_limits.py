"""E04, E05, E07: how often, how many at once, how large."""

import concurrent.futures
import json
import select
import time

import pytest
import sigv4
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client, figure
from wire import Wire

MIB = 1 << 20
RATES = """
[limits]
enabled = true
users = ["SLWIDE=5000", "SLUSER00=20", "SLUSER02=5"]
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
    """E04: A, who may send 20 a second, sends 300 and gets its second's worth and what comes with time; B's 50 all pass; the refusals are
    S3's and are counted."""
    statuses, began = [], time.monotonic()
    # A machine so slow that it is not over this rate has as many tries as it needs, within reason.
    for _ in range(10):
        statuses += burst(of_user(shared, 0), "/shared/k", 300)[0]
        if 503 in statuses:
            break
    seconds = time.monotonic() - began
    assert 503 in statuses, f"nobody was refused of {len(statuses)} in {seconds:.1f} s"
    assert 20 <= admitted(statuses) <= 1.1 * (20 + 20 * seconds), (admitted(statuses), seconds)
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
    deadline = time.monotonic() + 60
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


@pytest.mark.large
def test_the_rates_of_the_scenario(fresh):
    """E04 at its own figures: A sends 300 in a second and gets 100, B's 50 pass, and fifteen with 100 each get 1000 of a bucket."""
    server = fresh(config="[limits]\nenabled = true\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="shared")
    s3.put_object(Bucket="shared", Key="k", Body=b"x", ACL="public-read")
    for number in range(17):
        server.create_key(f"user{number}", f"SLUSER{number:02d}", f"secret-of-user-{number:02d}")
    statuses, seconds = burst(of_user(server, 15), "/shared/k", 300)
    others, _ = burst(of_user(server, 16), "/shared/k", 50)
    assert admitted(others) == 50 and 90 <= admitted(statuses) <= 110, (admitted(statuses), seconds)
    time.sleep(2)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda number: burst(of_user(server, number), "/shared/k", 100)[0], range(15)))
    together = time.monotonic() - began
    total = sum(admitted(some) for some in answers)
    print(f"A {admitted(statuses)} of 300 in {seconds:.2f} s, B 50 of 50; fifteen {total} of 1500 in {together:.2f} s")
    assert 900 <= total <= 1.1 * (1000 + 1000 * together)


def test_a_thousand_at_once(fresh, request):
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
            # A small window: most of the object stays with the gateway. With large segments they would use up the system's memory for TCP.
            connection = wire.slow_connect(4096)
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
        print(f"refusals: median {sorted(waits)[50] * 1e3:.1f} ms, longest {max(waits) * 1e3:.1f} ms")
        # One may be held up by the scheduler of a busy machine.
        assert sorted(waits)[97] < figure(0.05, request.config), sorted(waits)[-5:]
        for path in ("/health/live", "/health/ready", "/metrics"):
            began = time.monotonic()
            assert server.admin_get(path)[0] == 200
            took = time.monotonic() - began
            print(f"{path} {took * 1e3:.1f} ms")
            assert took < figure(0.1, request.config), path
    finally:
        for connection in held:
            connection.close()
    server.wait_for_metric("sluice_http_requests_in_flight", 0, 10)
    assert s3.get_object(Bucket="slow", Key="k")["ContentLength"] == 16 * MIB


def test_admin_bodies_have_a_limit(local):
    """E07: 2 MiB, by the declared and by the actual length."""
    token = (local.data_dir / "admin.token").read_text().strip()
    admin = Wire(local.admin_port, ACCESS_KEY, SECRET_KEY)
    headers = {"host": admin.host, "authorization": f"Bearer {token}", "content-type": "application/json"}
    with admin.connect() as connection:
        # Refused by what it says: nothing of the body was sent.
        connection.sendall(admin.head("POST", "/api/v1/keys", {**headers, "content-length": str(3 * MIB)}))
        assert admin.read(connection, "POST").status == 413
    with admin.connect() as connection:
        connection.sendall(admin.head("POST", "/api/v1/keys", {**headers, "transfer-encoding": "chunked"}))
        block, sent = json.dumps("x" * 65_534).encode(), 0
        # Until it answers, which it does before 3 MiB.
        while not select.select([connection], [], [], 0 if sent < 2 * MIB + 65_536 else 10)[0]:
            assert sent < 3 * MIB, "nobody stops it"
            connection.sendall(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            sent += len(block)
        assert admin.read(connection, "POST").status == 413
        assert sent > 2 * MIB, "refused too early"


@pytest.mark.parametrize("size", [8 * MIB, pytest.param(256 * MIB, marks=pytest.mark.large)], ids=["8MiB", "256MiB"])
def test_the_strict_profile(fresh, size):
    """E07: a limit of 256 MiB is the last byte that fits, declared or not, and what is refused leaves no object."""
    server = fresh(config=f"[s3]\nmax_write_size_bytes = {size}\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="strict")
    fits, over = bytes(size), bytes(size + 1)
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
