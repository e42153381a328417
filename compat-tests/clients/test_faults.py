"""E02, E03, E08, E13: clients that hang up, processes that die, drains, full disks."""

import concurrent.futures
import hashlib
import os
import pathlib
import random
import socket
import subprocess
import threading
import time

import botocore.exceptions
import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client, figure
from gateway import Gateway
from wire import Wire

MIB = 1 << 20
OLD = os.urandom(2 * MIB)
NEW = os.urandom(4 * MIB)


def files(folder: pathlib.Path) -> dict[str, int]:
    """Every file below a folder with its size; not the database's own, and no empty lock files, of which each process has its own."""
    found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return {name: size for name, size in found.items() if ".db" not in name and not (name.endswith(".lock") and size == 0)}


def wire_of(server: Gateway) -> Wire:
    return Wire(server.port, ACCESS_KEY, SECRET_KEY)


def put_half(wire: Wire, path: str, body: bytes, sent: int) -> socket.socket:
    """A PUT of which only `sent` bytes have gone out; the connection stays open."""
    headers = wire.signer.headers("PUT", path, None, {"host": wire.host, "content-length": str(len(body))})
    connection = wire.connect()
    connection.sendall(wire.head("PUT", path, headers) + body[:sent])
    return connection


def reset(connection: socket.socket) -> None:
    """Closes with a reset, as a vanished client does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def wait_for_bytes_on_disk(server: Gateway, before: int, more: int) -> None:
    """Waits until the staged bytes have reached the disk."""
    deadline = time.monotonic() + 60
    while sum(files(server.data_dir).values()) < before + more:
        assert time.monotonic() < deadline, "the body never reached the disk"
        time.sleep(0.02)


def test_kill_in_mid_put(fresh):
    """E08: kill -9 at 50 % of an overwrite, of a first write and of a part. After the restart: old bytes, no leftovers."""
    server = fresh()
    s3, wire = boto3_client(server), wire_of(server)
    s3.create_bucket(Bucket="kill")
    s3.put_object(Bucket="kill", Key="k", Body=OLD, Metadata={"age": "old"})
    upload_id = s3.create_multipart_upload(Bucket="kill", Key="m")["UploadId"]
    part = s3.upload_part(Bucket="kill", Key="m", UploadId=upload_id, PartNumber=1, Body=OLD)["ETag"]
    clean = files(server.data_dir)
    for turn in range(3):
        connections = [put_half(wire, path, NEW, len(NEW) // 2) for path in ("/kill/k", "/kill/new")]
        wait_for_bytes_on_disk(server, sum(clean.values()), MIB)
        server.kill()
        for connection in connections:
            connection.close()
        server.start()
        got = s3.get_object(Bucket="kill", Key="k")
        assert got["Body"].read() == OLD and got["Metadata"] == {"age": "old"}
        assert got["ETag"] == f'"{hashlib.md5(OLD).hexdigest()}"'
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="kill")["Contents"]] == ["k"]
        deadline = time.monotonic() + 60
        while (left := files(server.data_dir)) != clean:
            assert time.monotonic() < deadline, f"left behind: {set(left) ^ set(clean)}"
            time.sleep(0.1)
    # What was acknowledged is there: the part too.
    parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    s3.complete_multipart_upload(Bucket="kill", Key="m", UploadId=upload_id, MultipartUpload=parts)
    assert s3.get_object(Bucket="kill", Key="m")["Body"].read() == OLD


def test_kill_under_load(fresh):
    """Every acknowledged PUT is readable after kill -9, with the bytes that were acknowledged."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="load")
    acknowledged: dict[str, bytes] = {}
    going = threading.Event()
    going.set()

    def write(number: int) -> None:
        client = boto3_client(server)
        turn = 0
        while going.is_set():
            key, body = f"w{number}/{turn % 5}", f"{number} {turn} ".encode() * 2000
            try:
                client.put_object(Bucket="load", Key=key, Body=body)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                # Not acknowledged: the old bytes or the new ones, whole.
                acknowledged.setdefault(key, b"")
                acknowledged[key + " or"] = body
                return
            acknowledged[key] = body
            turn += 1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, number) for number in range(8)]
        time.sleep(1.5)
        server.kill()
        going.clear()
        for writer in writers:
            writer.result(60)
    server.start()
    listed = {entry["Key"] for entry in s3.list_objects_v2(Bucket="load")["Contents"]}
    for key, body in acknowledged.items():
        if key.endswith(" or") or (body == b"" and key not in listed):
            continue
        got = s3.get_object(Bucket="load", Key=key)["Body"].read()
        assert got in (body, acknowledged.get(key + " or")), f"{key}: lost or mixed"


def test_clients_that_hang_up(server, s3, wire, bucket):
    """E08: aborts of an overwrite at many places; the old object stays, handles close, nothing is left over."""
    s3.put_object(Bucket=bucket, Key="k", Body=OLD)
    clean = files(server.data_dir)
    for sent in (0, 1, 4096, MIB, len(NEW) // 2, len(NEW) - 1):
        reset(put_half(wire, f"/{bucket}/k", NEW, sent))
        put_half(wire, f"/{bucket}/k", NEW, sent).close()
    server.wait_for_metric("sluice_open_handles", 0, 60)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == OLD
    deadline = time.monotonic() + 60
    while (left := files(server.data_dir)) != clean:
        assert time.monotonic() < deadline, f"left behind: {set(left) ^ set(clean)}"
        time.sleep(0.05)


def test_a_thousand_aborted_downloads(server, s3, wire, bucket, request):
    """E13: 1000 GETs hung up after 64 KiB; no handle is open 1 s later, and the memory is given back."""
    s3.put_object(Bucket=bucket, Key="big", Body=os.urandom(16 * MIB))
    path = f"/{bucket}/big"

    def abort(_) -> None:
        with wire.connect() as connection:
            connection.sendall(wire.head("GET", path, wire.signer.headers("GET", path, None, {"host": wire.host})))
            left = 64 * 1024
            while left > 0 and (block := connection.recv(min(left, 65536))):
                left -= len(block)
            assert left <= 0
            reset(connection)

    def whole(_) -> None:
        assert len(wire.send("GET", path).body) == 16 * MIB

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        # What 16 clients at once need, whether they hang up or not, the allocator keeps at hand from now on.
        list(pool.map(whole, range(32)))
        list(pool.map(abort, range(100)))
        server.wait_for_metric("sluice_open_handles", 0, figure(1, request.config))
        before = server.memory()
        list(pool.map(abort, range(1000)))
    server.wait_for_metric("sluice_open_handles", 0, figure(1, request.config))
    # One leaked frame of each GET would be 64 MiB and more, and never come back.
    deadline = time.monotonic() + 60
    while (after := server.memory()) > before * 1.05:
        assert time.monotonic() < deadline, f"{before / MIB:.1f} -> {after / MIB:.1f} MiB"
        time.sleep(0.1)


def slow_get(wire: Wire, path: str, seconds: float, size: int) -> bytes:
    """Reads a body over about `seconds`."""
    with wire.slow_connect(64 * 1024) as connection:
        connection.sendall(wire.head("GET", path, wire.signer.headers("GET", path, None, {"host": wire.host})))
        data, began = b"", time.monotonic()
        head, _, data = connection.recv(65536).partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        blocks = [data]
        got = len(data)
        while got < size:
            ahead = got / size * seconds - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
            block = connection.recv(512 * 1024)
            assert block, f"the body broke off after {got} of {size} bytes"
            blocks.append(block)
            got += len(block)
        return b"".join(blocks)


def test_drain(fresh):
    """E02: SIGTERM during a slow GET, a slow PUT and on an idle connection. Both finish, nobody new gets in, exit 0."""
    server = fresh()
    s3, wire = boto3_client(server), wire_of(server)
    s3.create_bucket(Bucket="drain")
    big = os.urandom(64 * MIB)
    s3.put_object(Bucket="drain", Key="big", Body=big)
    idle = wire.connect()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reading = pool.submit(slow_get, wire, "/drain/big", 4, len(big))
        writing = put_half(wire, "/drain/new", NEW, len(NEW) // 2)
        time.sleep(0.7)
        server.terminate()
        time.sleep(0.5)
        status, _ = refused_or_unready(server)
        assert status in (0, 503), "a draining gateway must not be ready"
        with pytest.raises(OSError):
            late = socket.create_connection(("127.0.0.1", server.port), timeout=2)
            late.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            if not late.recv(1):
                raise OSError("closed")
        # An idle keep-alive connection is closed, not kept for 30 s.
        idle.settimeout(20)
        assert idle.recv(1) == b""
        writing.sendall(NEW[len(NEW) // 2 :])
        answer = wire.read(writing, "PUT")
        assert answer.status == 200
        assert reading.result(60) == big
    assert server.wait(60) == 0, server.log()[-2000:]
    server.start()
    assert s3.get_object(Bucket="drain", Key="new")["Body"].read() == NEW
    assert server.metric("sluice_open_handles") == 0


def refused_or_unready(server: Gateway) -> tuple[int, str]:
    try:
        return server.admin_get("/health/ready", timeout=2)
    except OSError:
        return 0, ""


DRAIN_3 = "[server]\nshutdown_timeout_secs = 3\n"


def test_drain_does_not_wait_for_ever(fresh, request):
    """E03: a client that never reads. The process ends at its limit (3 s here), and its exit code says that not all finished."""
    server = fresh(config=DRAIN_3)
    s3, wire = boto3_client(server), wire_of(server)
    s3.create_bucket(Bucket="drain")
    s3.put_object(Bucket="drain", Key="big", Body=os.urandom(64 * MIB))
    path = "/drain/big"
    stuck = wire.slow_connect(4096)
    stuck.sendall(wire.head("GET", path, wire.signer.headers("GET", path, None, {"host": wire.host})))
    time.sleep(0.5)
    began = time.monotonic()
    server.terminate()
    assert server.wait(60) != 0
    took = time.monotonic() - began
    assert 2.5 <= took <= 3 + figure(0.5, request.config), took
    stuck.close()


def test_an_idle_gateway_ends_at_once(fresh, request):
    server = fresh()
    idle = wire_of(server).connect()
    began = time.monotonic()
    server.terminate()
    assert server.wait(60) == 0
    assert time.monotonic() - began < figure(2, request.config)
    idle.close()


def test_acknowledged_before_the_drain(fresh):
    """Every PUT acknowledged while SIGTERM arrives is there after the restart."""
    server = fresh()
    boto3_client(server).create_bucket(Bucket="acked")
    acknowledged: list[str] = []

    def write(number: int) -> None:
        client = boto3_client(server)
        for turn in range(10_000):
            try:
                client.put_object(Bucket="acked", Key=f"{number}/{turn}", Body=f"{number} {turn}".encode())
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                return
            acknowledged.append(f"{number}/{turn}")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        time.sleep(1)
        server.terminate()
        for writer in writers:
            writer.result(60)
    assert server.wait(60) == 0
    server.start()
    s3 = boto3_client(server)
    listed = {entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="acked") for entry in page.get("Contents", [])}
    assert set(acknowledged) <= listed and acknowledged


def test_a_stalled_upload_holds_nobody_up(server, s3, wire, bucket, request):
    """A PUT that stands still takes no lock that others need."""
    stalled = put_half(wire, f"/{bucket}/k", NEW, 1000)
    began = time.monotonic()
    s3.put_object(Bucket=bucket, Key="k", Body=b"other")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"other"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert time.monotonic() - began < figure(2, request.config)
    stalled.close()


def test_a_file_cut_short_under_a_reader(fresh):
    """A body that cannot be read to its end breaks the connection; it never ends as a clean, short 200."""
    server = fresh()
    s3, wire = boto3_client(server), wire_of(server)
    s3.create_bucket(Bucket="cut")
    body = os.urandom(64 * MIB)
    s3.put_object(Bucket="cut", Key="victim", Body=body)
    stored = [path for path in server.data_dir.rglob("*") if path.is_file() and path.stat().st_size == len(body)]
    assert len(stored) == 1, stored
    with wire.slow_connect(256 * 1024) as connection:
        path = "/cut/victim"
        connection.sendall(wire.head("GET", path, wire.signer.headers("GET", path, None, {"host": wire.host})))
        head, _, first = connection.recv(4096).partition(b"\r\n\r\n")
        assert b"content-length: " + str(len(body)).encode() in head.lower()
        time.sleep(0.3)
        os.truncate(stored[0], 32 * MIB)
        got = len(first)
        try:
            while block := connection.recv(1 << 20):
                got += len(block)
        except ConnectionError:
            pass
    assert got < len(body)
    # The gateway lives and says what it can.
    assert s3.list_objects_v2(Bucket="cut")["KeyCount"] == 1
    server.wait_for_metric("sluice_open_handles", 0, 2)
    assert server.metric("sluice_http_responses_cut_total") == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here (needs root): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk(fresh, small_disk):
    """A clear error, no partial object, the old one whole; after making room everything works again."""
    server = fresh(data_dir=small_disk / "data")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="full")
    s3.put_object(Bucket="full", Key="k", Body=OLD)
    clean = files(server.data_dir)
    upload_id = s3.create_multipart_upload(Bucket="full", Key="m")["UploadId"]
    large = os.urandom(32 * MIB)
    for attempt in (
        lambda: s3.put_object(Bucket="full", Key="k", Body=large),
        lambda: s3.put_object(Bucket="full", Key="new", Body=large),
        lambda: s3.upload_part(Bucket="full", Key="m", UploadId=upload_id, PartNumber=1, Body=large),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as full:
            attempt()
        status = full.value.response["ResponseMetadata"]["HTTPStatusCode"]
        code = full.value.response["Error"]["Code"]
        assert 500 <= status <= 507 and code not in ("", "InternalError"), (status, code)
    assert s3.get_object(Bucket="full", Key="k")["Body"].read() == OLD
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="full")["Contents"]] == ["k"]
    assert "Parts" not in s3.list_parts(Bucket="full", Key="m", UploadId=upload_id)
    s3.abort_multipart_upload(Bucket="full", Key="m", UploadId=upload_id)
    deadline = time.monotonic() + 60
    while (left := files(server.data_dir)) != clean:
        assert time.monotonic() < deadline, f"left behind: {set(left) ^ set(clean)}"
        time.sleep(0.1)
    s3.put_object(Bucket="full", Key="new", Body=NEW)
    assert s3.get_object(Bucket="full", Key="new")["Body"].read() == NEW


def test_two_gateways_on_one_directory_race(fresh, tmp_path):
    """If-None-Match: * over two processes on the same mount: one wins."""
    shared = tmp_path / "shared"
    shared.mkdir()
    servers = [fresh(), fresh()]
    for server in servers:
        boto3_client(server).create_bucket(Bucket="pair")
        server.mount("pair", "s/", "local", root=str(shared))
    gate = threading.Barrier(10)
    clients = [boto3_client(servers[number % 2]) for number in range(10)]

    def create(number: int, turn: int) -> bool:
        gate.wait()
        try:
            clients[number].put_object(Bucket="pair", Key=f"s/{turn}", Body=str(number).encode() * 100, IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        for turn in range(10):
            won = list(pool.map(create, range(10), [turn] * 10))
            assert sum(won) == 1, won
            for client in clients[:2]:
                assert client.get_object(Bucket="pair", Key=f"s/{turn}")["Body"].read() == str(won.index(True)).encode() * 100


# Nearly all that S3 takes.
METADATA = {"big": "m" * 1900}


class Ledger:
    """What a client was told about its keys: the bytes of the last acknowledged write, and those of a write whose answer never came."""

    def __init__(self) -> None:
        self.told: dict[str, bytes | None] = {}
        self.asked: dict[str, tuple[bytes | None, ...]] = {}

    def change(self, key: str, body: bytes | None, act) -> bool:
        """Carries out a write (`None`: a deletion). False when no answer came: then both states are possible from now on."""
        self.asked[key] = (*self.asked.get(key, ()), body)
        try:
            act()
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        self.told[key], self.asked[key] = body, ()
        return True

    def check(self, s3, bucket: str, listed: set[str]) -> None:
        """Every key holds what was acknowledged last, or one of the writes behind that, whole."""
        for key in self.told.keys() | self.asked.keys():
            possible = (self.told.get(key), *self.asked.get(key, ()))
            try:
                found = s3.get_object(Bucket=bucket, Key=key)
                body = found["Body"].read()
                assert found["Metadata"] == METADATA, f"{key}: {found['Metadata']}"
                assert key in listed, f"{key}: read, but not listed"
                if "-" not in found["ETag"]:
                    assert found["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', f"{key}: the ETag is of other bytes"
            except botocore.exceptions.ClientError as error:
                assert error.response["Error"]["Code"] == "NoSuchKey", (key, error)
                assert key not in listed, f"{key}: listed, but not there"
                body = None
            assert body in possible, f"{key}: lost or torn, {len(body) if body is not None else 'gone'}"
            # From here on this is what holds.
            self.told[key], self.asked[key] = body, ()


@pytest.mark.parametrize("xattrs", ["auto", "off"])
def test_kill_at_random_moments(fresh, xattrs):
    """E08: 20 times kill -9 in a mix of small and large PUTs, copies, multipart uploads and deletions, on keys that need directories and
    on keys that need others to step aside. What was acknowledged is there, whole; nothing is half there; nothing is left over."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    server = fresh(config=f'[default_mount]\nxattrs = "{xattrs}"\n')
    boto3_client(server).create_bucket(Bucket="chaos")
    ledgers = [Ledger() for _ in range(6)]

    def work(number: int, turn: int, going: threading.Event) -> None:
        client, ledger, own = boto3_client(server), ledgers[number], random.Random(f"{seed} {number} {turn}")
        while going.is_set():
            # `a` and `a/b` together; a deep one; long names.
            key = own.choice([f"{number}/a", f"{number}/a/b", f"{number}/d/e/f/g", f"{number}/{'x' * 300}", f"{number}/m"])
            size = own.choice([0, 10, 5000, 200_000, 3 * MIB])
            body = own.randbytes(size)
            kind = own.random()
            if kind < 0.5:
                done = ledger.change(key, body, lambda: client.put_object(Bucket="chaos", Key=key, Body=body, Metadata=METADATA))
            elif kind < 0.65:
                done = ledger.change(key, None, lambda: client.delete_object(Bucket="chaos", Key=key))
            elif kind < 0.8 and ledger.told.get(f"{number}/a") is not None and not ledger.asked.get(f"{number}/a"):
                source, target = ledger.told[f"{number}/a"], f"{number}/copy"
                copy = {"Bucket": "chaos", "Key": f"{number}/a"}
                done = ledger.change(target, source, lambda: client.copy_object(Bucket="chaos", Key=target, CopySource=copy))
            else:
                pieces = [own.randbytes(5 * MIB), own.randbytes(1000)]

                def upload() -> None:
                    begun = client.create_multipart_upload(Bucket="chaos", Key=key, Metadata=METADATA)
                    upload_id = begun["UploadId"]
                    parts = []
                    for at, piece in enumerate(pieces, 1):
                        part = client.upload_part(Bucket="chaos", Key=key, UploadId=upload_id, PartNumber=at, Body=piece)
                        parts.append({"PartNumber": at, "ETag": part["ETag"]})
                    client.complete_multipart_upload(
                        Bucket="chaos", Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
                    )

                done = ledger.change(key, b"".join(pieces), upload)
            if not done:
                return

    for turn in range(20):
        going = threading.Event()
        going.set()
        with concurrent.futures.ThreadPoolExecutor(len(ledgers)) as pool:
            workers = [pool.submit(work, number, turn, going) for number in range(len(ledgers))]
            time.sleep(chance.uniform(0.05, 0.8))
            server.kill()
            going.clear()
            for worker in workers:
                worker.result(60)
        server.start()
        s3 = boto3_client(server)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="chaos", PaginationConfig={"PageSize": 7})
        listed = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
        try:
            for ledger in ledgers:
                ledger.check(s3, "chaos", listed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, turn {turn}: {error}") from error
    assert sum(len(ledger.told) for ledger in ledgers) > 20, "hardly anything was acknowledged"
    # Unfinished uploads can be aborted, and then nothing but objects takes room.
    for upload in s3.list_multipart_uploads(Bucket="chaos").get("Uploads", []):
        s3.abort_multipart_upload(Bucket="chaos", Key=upload["Key"], UploadId=upload["UploadId"])
    hidden = server.data_dir / "buckets" / "chaos" / ".sluice"
    assert not list((hidden / "uploads").iterdir())
    left = [path for path in (hidden / "staging").rglob("*") if path.is_file() and not path.name.endswith("lock")]
    assert not left, left
