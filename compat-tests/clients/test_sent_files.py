"""Large GETs, whose bytes the kernel sends straight from the page cache, or from the socket of another gateway, and the same with that
turned off."""

import contextlib
import hashlib
import http.client
import os
import random
import socket
import threading
import time

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from wire import Wire

MIB = 1 << 20
SIZES = [0, 1, 65_536, 65_537, 524_288, 524_289, MIB, MIB + 1, 5_000_001, 16 * MIB]
OBJECTS = {f"k{size}": random.Random(size).randbytes(size) for size in SIZES}
LARGE = f"k{16 * MIB}"


@pytest.fixture(scope="module", params=["sent", "copied", "sent by any thread", "passed on", "read and written"])
def server(request, environment):
    """A gateway with the files, or one that passes on those of another."""
    from gateway import Gateway

    switch = {"copied": "sendfile", "read and written": "sendfile", "sent by any thread": "connection_affinity"}.get(request.param)
    config = f"[server]\n{switch} = false\n" if switch else ""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(Gateway(config=config))
        one.files_in = one.data_dir
        s3 = boto3_client(one)
        s3.create_bucket(Bucket="files")
        if request.param in ("passed on", "read and written"):
            far = stack.enter_context(Gateway())
            boto3_client(far).create_bucket(Bucket="files")
            (far.work / "keys").write_text(f"[far]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
            one.command("mount", "rm", "files", "", check=False)
            settings = {"endpoint": far.endpoint, "bucket": "files", "credentials_file": str(far.work / "keys"), "profile": "far"}
            one.mount("files", "", "s3", **settings)
            one.files_in = far.data_dir
        for key, body in OBJECTS.items():
            s3.put_object(Bucket="files", Key=key, Body=body)
        yield one
        assert one.process.poll() is None, f"the gateway died:\n{one.log()[-4000:]}"
        assert "panicked" not in one.log()


def wire_of(server) -> Wire:
    return Wire(server.port, ACCESS_KEY, SECRET_KEY)


def head_of(wire: Wire, method: str, key: str, **headers: str) -> bytes:
    """A signed request without a body."""
    path = f"/files/{key}"
    return wire.head(method, path, wire.signer.headers(method, path, None, {"host": wire.host, **headers}))


def read(stream, method: str) -> tuple[int, bytes]:
    """One answer of many on a connection: http.client reads ahead, so the stream is shared and parsed here."""
    status = int(stream.readline().split()[1])
    headers = http.client.parse_headers(stream)
    length = 0 if method == "HEAD" or status == 304 else int(headers["content-length"])
    body = stream.read(length)
    assert len(body) == length, f"{len(body)} of {length} bytes"
    return status, body


def open_files(server) -> list[str]:
    """The object files, and the pipes of bodies, that the gateway has open."""
    found = []
    for entry in os.scandir(f"/proc/{server.pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except FileNotFoundError:
            continue
        if target.startswith("pipe:") or any(target.split(" ")[0].endswith("/" + key) for key in OBJECTS):
            found.append(target)
    return found


def test_answers_follow_each_other_on_a_connection(server):
    """Pipelined: whole objects, ranges, heads, refusals, in random order; no byte of one answer gets into another."""
    wire, chance = wire_of(server), random.Random(4)
    with wire.connect(timeout=60) as connection:
        stream = connection.makefile("rb")
        for _ in range(12):
            asked = []
            for _ in range(8):
                key = chance.choice(list(OBJECTS))
                body = OBJECTS[key]
                method = chance.choice(["GET", "GET", "HEAD"])
                first = chance.randrange(max(len(body), 1))
                last = chance.randrange(first, max(len(body), 1))
                kind = chance.choice(["whole", "range", "suffix", "beyond", "unchanged", "missing"]) if body else "whole"
                headers, wanted = {
                    "whole": ({}, (200, body)),
                    "range": ({"range": f"bytes={first}-{last}"}, (206, body[first : last + 1])),
                    "suffix": ({"range": f"bytes=-{last + 1}"}, (206, body[-(last + 1) :])),
                    "beyond": ({"range": f"bytes={len(body)}-"}, (416, None)),
                    "unchanged": ({"if-none-match": f'"{hashlib.md5(body).hexdigest()}"'}, (304, b"")),
                    "missing": ({}, (404, None)),
                }[kind]
                asked.append((method, "none" if kind == "missing" else key, headers, wanted))
            sender = threading.Thread(
                target=connection.sendall, args=(b"".join(head_of(wire, m, k, **h) for m, k, h, _ in asked),), daemon=True
            )
            sender.start()
            for method, key, headers, (status, body) in asked:
                seen = read(stream, method)
                assert seen[0] == status, (method, key, headers, seen[0])
                if method == "GET" and body is not None:
                    assert seen[1] == body, (method, key, headers, "other bytes")
            sender.join(30)


def test_many_readers_at_once(server):
    """Parallel, some slow: every body is whole."""
    wire, wrong = wire_of(server), []

    def reader(number: int) -> None:
        chance = random.Random(number)
        with wire.slow_connect(256 * 1024) if number % 4 == 0 else wire.connect() as connection:
            stream = connection.makefile("rb")
            for _ in range(6):
                key = chance.choice(list(OBJECTS))
                wrong.append(key)
                connection.sendall(head_of(wire, "GET", key))
                if number % 4 == 0:
                    time.sleep(0.05)
                if read(stream, "GET") == (200, OBJECTS[key]):
                    wrong.remove(key)

    readers = [threading.Thread(target=reader, args=(number,)) for number in range(12)]
    for one in readers:
        one.start()
    for one in readers:
        one.join(120)
    assert not wrong and not any(one.is_alive() for one in readers)


def test_readers_that_hang_up_leave_no_file_open(server):
    wire = wire_of(server)
    before = open_files(server)
    for taken in (1, 1000, 100_000, 3 * MIB):
        for _ in range(10):
            with wire.connect() as connection, connection.makefile("rb") as stream:
                connection.sendall(head_of(wire, "GET", LARGE))
                assert len(stream.read(taken)) == taken
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 60
    while left := set(open_files(server)) - set(before):
        assert time.monotonic() < deadline, f"still open: {left}"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["replaced", "deleted", "copied onto itself", "completed over"])
def test_a_reader_keeps_the_object_that_it_opened(server, how):
    """A published file is never changed in place: whoever reads has the old bytes to the end."""
    s3, wire, old = boto3_client(server), wire_of(server), OBJECTS[LARGE]
    key = "kept"
    s3.put_object(Bucket="files", Key=key, Body=old)
    with wire.slow_connect(256 * 1024) as connection:
        connection.sendall(head_of(wire, "GET", key))
        stream = connection.makefile("rb", buffering=0)
        begun = stream.read(1000)
        if how == "replaced":
            s3.put_object(Bucket="files", Key=key, Body=bytes(len(old)))
        elif how == "deleted":
            s3.delete_object(Bucket="files", Key=key)
            s3.put_object(Bucket="files", Key=key, Body=bytes(len(old)))
        elif how == "copied onto itself":
            source = {"Bucket": "files", "Key": key}
            s3.copy_object(Bucket="files", Key=key, CopySource=source, MetadataDirective="REPLACE", Metadata={"a": "b"})
        else:
            upload = s3.create_multipart_upload(Bucket="files", Key=key)["UploadId"]
            parts = []
            for number in (1, 2, 3):
                part = s3.upload_part(Bucket="files", Key=key, UploadId=upload, PartNumber=number, Body=bytes(5 * MIB))
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            s3.complete_multipart_upload(Bucket="files", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        rest = bytearray(begun)
        head_end = None
        while head_end is None or len(rest) < head_end + len(old):
            more = stream.read(1 << 16)
            assert more, "the body ended early"
            rest += more
            if head_end is None and (at := rest.find(b"\r\n\r\n")) >= 0:
                head_end = at + 4
        assert rest[head_end:] == old


def test_a_file_that_somebody_cuts_short(server):
    """Another program truncates the file in mid-GET: a short body on a closed connection, never other bytes; nobody else notices."""
    # More than the system holds between two gateways: a window that has grown is of up to 32 MiB.
    s3, wire, body = boto3_client(server), wire_of(server), OBJECTS[LARGE] * 4
    s3.put_object(Bucket="files", Key="cut", Body=body)
    [path] = [path for path in server.files_in.rglob("cut") if path.is_file()]
    with wire.slow_connect(256 * 1024) as connection:
        connection.sendall(head_of(wire, "GET", "cut"))
        stream = connection.makefile("rb", buffering=0)
        seen = bytearray(stream.read(1000))
        os.truncate(path, MIB)
        try:
            while more := stream.read(1 << 16):
                seen += more
        except ConnectionResetError:
            pass
    got = seen[seen.find(b"\r\n\r\n") + 4 :]
    assert len(got) < len(body)
    # What had been sent from the page that was cut was zeroed beneath the socket; all before it is the object's.
    assert got[: min(len(got), MIB)] == body[: min(len(got), MIB)]
    assert wire.send("GET", "/files/k5000001").body == OBJECTS["k5000001"]


def test_files_that_are_not_in_memory(server):
    """Evicted from the page cache as far as the system lets us: they come whole."""
    wire = wire_of(server)
    for key in ("k5000001", LARGE):
        [path] = [path for path in server.files_in.rglob(key) if path.is_file()]
        for start, length in [(0, 0), (2 * MIB, MIB), (0, MIB)]:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)
            assert wire.send("GET", f"/files/{key}").body == OBJECTS[key]
