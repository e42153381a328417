"""The providers kv, page, stream and pubsub through the gateway, each mounted at a prefix of one bucket."""

import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import sqlite3
import subprocess
import time

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client, bucket_name
from test_conditions import code, race
from wire import Wire

MIB = 1 << 20


@pytest.fixture
def rig(request, local, tmp_path):
    """A bucket of files with the four mounts in it."""
    bucket = bucket_name(request)
    s3 = boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    url = f"sqlite:{tmp_path}/objects.db"
    local.mount(bucket, "kv/", "kv", url=url, space="kv")
    local.mount(bucket, "page/", "page", url=url, space="page", keep_secs="0")
    local.mount(bucket, "stream/", "stream", window_bytes="100000")
    local.mount(bucket, "topics/", "pubsub", messages="3")
    yield local, s3, bucket
    for prefix in ("kv/", "page/", "stream/", "topics/"):
        local.command("mount", "rm", bucket, prefix)


@contextlib.contextmanager
def following(server, bucket: str, key: str, query: dict | None = None, headers: dict | None = None):
    """An answer to `?follow`, to be read as it comes."""
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    path, asked = f"/{bucket}/{key}", {"follow": "", **(query or {})}
    signed = wire.signer.headers("GET", path, asked, {"host": wire.host, **(headers or {})})
    with wire.connect(60) as connection:
        connection.sendall(wire.head("GET", wire.target(path, asked), signed))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        yield answer


def event(answer) -> dict[str, str]:
    """The next server-sent event; comments are passed over."""
    fields: dict[str, list[str]] = {}
    while True:
        line = answer.readline().decode().rstrip("\n")
        if not line and fields:
            return {name: "\n".join(values) for name, values in fields.items()}
        if line and not line.startswith(":"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))


def test_followers_do_not_hold_up_a_gateway_that_stops(fresh):
    """Events end in mid-stream, bytes break off: neither says that no more would come."""
    server = fresh()
    boto3_client(server).create_bucket(Bucket="live")
    server.mount("live", "topics/", "pubsub")
    boto3_client(server).put_object(Bucket="live", Key="topics/t", Body=b"one")
    with following(server, "live", "topics/t", headers={"accept": "text/event-stream"}) as events, following(server, "live", "topics/t") as plain:
        assert event(events)["data"] == "one"
        assert plain.readline() == b"one\n"
        server.terminate()
        assert events.read().replace(b":\n\n", b"") == b""
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            plain.read()
    assert server.wait(20) == 0, server.log()[-2000:]


def test_kv(rig):
    """Compare and swap loses one of two writers, a mebibyte is the most, listings are in order."""
    _, s3, bucket = rig
    put = {"Bucket": bucket, "Key": "kv/counter"}
    etag = s3.put_object(**put, Body=b"0", Metadata={"a": "b"})["ETag"]
    answers = race(6, lambda n: code(s3.put_object, **put, Body=b"n%d" % n, IfMatch=etag))
    assert sorted(answers) == [""] + ["PreconditionFailed"] * 5
    answers = race(6, lambda n: code(s3.put_object, Bucket=bucket, Key="kv/new", Body=b"x", IfNoneMatch="*"))
    assert sorted(answers) == [""] + ["PreconditionFailed"] * 5
    s3.put_object(Bucket=bucket, Key="kv/largest", Body=bytes(MIB))
    assert code(s3.put_object, Bucket=bucket, Key="kv/larger", Body=bytes(MIB + 1)) == "EntityTooLarge"
    for name in ("b/2", "a", "b/1"):
        s3.put_object(Bucket=bucket, Key=f"kv/{name}", Body=b"")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="kv/", Delimiter="/", StartAfter="kv/A")
    assert [entry["Key"] for entry in listed["Contents"]] == ["kv/a", "kv/counter", "kv/largest", "kv/new"]
    assert [entry["Prefix"] for entry in listed["CommonPrefixes"]] == ["kv/b/"]
    s3.put_object(Bucket=bucket, Key="kv/a", Body=b"one", WriteOffsetBytes=0)
    s3.put_object(Bucket=bucket, Key="kv/a", Body=b" two", WriteOffsetBytes=3)
    s3.rename_object(Bucket=bucket, Key="kv/c", RenameSource="/kv/a")
    assert s3.get_object(Bucket=bucket, Key="kv/c")["Body"].read() == b"one two"
    assert code(s3.create_multipart_upload, Bucket=bucket, Key="kv/parts") == "NotImplemented"


def test_page(rig):
    """Ranges over pages, replacement, appends, renames and copies to a mount of files."""
    _, s3, bucket = rig
    body = os.urandom(5 * MIB + 123)
    etag = s3.put_object(Bucket=bucket, Key="page/a", Body=body)["ETag"]
    for first, last in ((0, 0), (16383, 16384), (MIB - 5, 3 * MIB), (5 * MIB, len(body) - 1)):
        got = s3.get_object(Bucket=bucket, Key="page/a", Range=f"bytes={first}-{last}")["Body"].read()
        assert got == body[first : last + 1]
    s3.copy_object(Bucket=bucket, Key="files/a", CopySource={"Bucket": bucket, "Key": "page/a"})
    assert s3.head_object(Bucket=bucket, Key="files/a")["ETag"] == etag
    s3.rename_object(Bucket=bucket, Key="page/b", RenameSource="/page/a")
    assert code(s3.rename_object, Bucket=bucket, Key="files/b", RenameSource="/page/b") == "NotImplemented"
    tail = os.urandom(20_000)
    s3.put_object(Bucket=bucket, Key="page/b", Body=tail, WriteOffsetBytes=len(body))
    assert s3.get_object(Bucket=bucket, Key="page/b")["Body"].read() == body + tail
    s3.upload_fileobj(io.BytesIO(body * 4), bucket, "page/parts")
    head = s3.head_object(Bucket=bucket, Key="page/parts")
    assert head["ETag"].endswith('-3"') and s3.get_object(Bucket=bucket, Key="page/parts")["Body"].read() == body * 4
    s3.delete_object(Bucket=bucket, Key="page/b")
    assert code(s3.get_object, Bucket=bucket, Key="page/b") == "NoSuchKey"


def pages(database) -> int:
    """How many pages there are in a database, of objects that are there or not."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as opened:
        return opened.execute("SELECT count(*) FROM sluice_pages").fetchone()[0]


@pytest.mark.parametrize("mebibytes", [20, pytest.param(200, marks=[pytest.mark.large, pytest.mark.timeout(1800)])])
def test_page_leaves_no_orphans(rig, tmp_path, mebibytes):
    """E29: an object of thousands of pages is deleted, and no page is left."""
    _, s3, bucket = rig
    body = os.urandom(mebibytes * MIB)
    s3.put_object(Bucket=bucket, Key="page/large", Body=body)
    there = pages(tmp_path / "objects.db")
    assert there >= mebibytes * MIB // (16 * 1024)
    # Replaced, appended to, and deleted.
    s3.put_object(Bucket=bucket, Key="page/large", Body=body[: 5 * MIB])
    s3.put_object(Bucket=bucket, Key="page/large", Body=b"tail", WriteOffsetBytes=5 * MIB)
    s3.delete_object(Bucket=bucket, Key="page/large")
    deadline = time.monotonic() + 60
    while (left := pages(tmp_path / "objects.db")) and time.monotonic() < deadline:
        time.sleep(0.1)
    print(f"\n{mebibytes} MiB in {there} pages, deleted: {left} left")
    assert left == 0


def test_pubsub(rig):
    """The ring, the size of a message, followers and what they missed."""
    server, s3, bucket = rig
    topic = {"Bucket": bucket, "Key": "topics/t"}
    for n in range(1, 5):
        answer = s3.put_object(**topic, Body=f"message {n}\n".encode())
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-sluice-seq"] == str(n)
    got = s3.get_object(**topic)
    assert got["Body"].read() == b"message 2\nmessage 3\nmessage 4"
    told = json.loads(s3.get_object(Bucket=bucket, Key="topics/t.info")["Body"].read())
    assert (told["messages"], told["retained"], told["ring_size"]) == (4, 3, 3)
    assert code(s3.put_object, Bucket=bucket, Key="topics/t.info", Body=b"x") == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="topics/large", Body=bytes(MIB))
    assert code(s3.put_object, Bucket=bucket, Key="topics/large", Body=bytes(MIB + 1)) == "EntityTooLarge"
    sse = {"accept": "text/event-stream"}
    with following(server, bucket, "topics/t", headers=sse) as all_of_it, following(server, bucket, "topics/t", {"since": "now"}) as new:
        assert all_of_it.headers["content-type"] == "text/event-stream"
        assert [event(all_of_it) for _ in range(3)] == [{"id": str(n), "data": f"message {n}"} for n in (2, 3, 4)]
        s3.put_object(**topic, Body=b"two\nlines")
        assert event(all_of_it) == {"id": "5", "data": "two\nlines"}
        assert [new.readline(), new.readline()] == [b"two\n", b"lines\n"]
        with following(server, bucket, "topics/t", headers={**sse, "last-event-id": "1"}) as late:
            assert event(late) == {"event": "lagged", "data": "1"}
            assert event(late)["id"] == "3"
        # Without events there is no way to tell of a gap but to break off.
        with pytest.raises((http.client.HTTPException, OSError)), following(server, bucket, "topics/t", {"since": "1"}) as late:
            late.read()
        s3.delete_object(**topic)
        assert event(all_of_it)["event"] == "end" and new.read() == b""


def test_many_followers(rig):
    """Fifty followers of one topic see every message, or are told how many they missed."""
    server, s3, bucket = rig
    topic = {"Bucket": bucket, "Key": "topics/many"}
    s3.put_object(**topic, Body=b"1")

    def follow(_) -> int:
        with following(server, bucket, "topics/many", {"since": "0"}, {"accept": "text/event-stream"}) as answer:
            following_now.append(1)
            seen = 0
            while True:
                told = event(answer)
                if told.get("event") == "end":
                    return seen
                if told.get("event") == "lagged":
                    seen += int(told["data"])
                    continue
                assert told == {"id": str(seen + 1), "data": str(seen + 1)}
                seen += 1

    following_now: list[int] = []
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(follow, n) for n in range(50)]
        while len(following_now) < 50 and not any(answer.done() for answer in answers):
            s3.head_object(**topic)
        for n in range(2, 101):
            s3.put_object(**topic, Body=str(n).encode())
        s3.delete_object(**topic)
        assert [answer.result() for answer in answers] == [100] * 50


def test_stream(rig):
    """Appends at the end, stable offsets behind a window that moves, following, sealing."""
    server, s3, bucket = rig
    where = {"Bucket": bucket, "Key": "stream/log"}
    written = b""
    for n in range(6):
        piece = bytes([65 + n]) * 30_000
        assert s3.put_object(**where, Body=piece, WriteOffsetBytes=len(written))["Size"] == len(written) + 30_000
        written += piece
    assert code(s3.put_object, **where, Body=b"x", WriteOffsetBytes=5) == "InvalidWriteOffset"
    assert s3.head_object(**where)["ContentLength"] == len(written)
    got = s3.get_object(**where)
    assert got["Body"].read() == written[80_000:] and got["ResponseMetadata"]["HTTPHeaders"]["x-sluice-seq"] == "80000"
    assert s3.get_object(**where, Range="bytes=170000-")["Body"].read() == written[170_000:]
    assert code(s3.get_object, **where, Range="bytes=0-10") == "InvalidRange"
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    with following(server, bucket, "stream/log", {"since": "170000"}) as answer:
        assert answer.read(10_000) == written[170_000:]
        s3.put_object(**where, Body=b"more", WriteOffsetBytes=len(written))
        assert answer.read(4) == b"more"
        assert wire.send("POST", f"/{bucket}/stream/log", query={"close": ""}).status == 200
        assert answer.read() == b""
    assert code(s3.put_object, **where, Body=b"x", WriteOffsetBytes=len(written) + 4) == "AccessDenied"
    with following(server, bucket, "stream/log", {"since": "0"}, {"accept": "text/event-stream"}) as answer:
        assert event(answer) == {"event": "lagged", "data": "80004"}
    assert wire.send("GET", f"/{bucket}/kv/none", query={"follow": ""}).status == 404
    s3.put_object(Bucket=bucket, Key="kv/k", Body=b"")
    wire.send("GET", f"/{bucket}/kv/k", query={"follow": ""}).is_error(501, "NotImplemented")


def test_what_mounts_can_do(rig):
    """`sluice provider ls | describe`."""
    server, _, bucket = rig
    listed = subprocess.run([str(server.program), "provider", "ls", "--json"], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    kinds = json.loads(listed.stdout)["providers"]
    assert {"kv", "local", "memory", "opendal", "page", "pubsub", "s3", "stream"} <= {kind["name"] for kind in kinds if kind["built"]}
    assert "page_bytes" in server.command("provider", "describe", "page").stdout
    assert server.command("provider", "describe", "none", check=False).returncode != 0
    mounts = json.loads(server.command("provider", "describe", "--bucket", bucket, "--json").stdout)["mounts"]
    can = {mount["prefix"]: {name for name, value in mount.items() if value is True} for mount in mounts}
    assert {"append", "rename", "versions", "multipart", "persistent"} <= can[""]
    assert "follow" in can["topics/"] and "append" not in can["topics/"]
    assert {"append", "follow"} <= can["stream/"] and "persistent" not in can["stream/"]
    assert {"append", "rename", "persistent", "conditions"} <= can["kv/"] and "multipart" not in can["kv/"]
    refused = server.command("mount", "add", bucket, "x/", "kv", "--set", "url=sqlite:/tmp/x", "--set", "spaec=s", check=False)
    assert refused.returncode != 0 and "spaec" in refused.stderr
