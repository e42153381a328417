"""One mount that hangs fails its own keys and nothing else; a handle that nobody moves is closed and one that is slow is not (E14)."""

import concurrent.futures
import json
import os
import socket
import threading
import time

import botocore.exceptions
import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from line import Line
from wire import Wire

MIB = 1 << 20


@pytest.fixture
def remote(fresh, tmp_path):
    """Mounts a bucket of a gateway of its own over a line that can hang: `remote(server, bucket, prefix)` answers the line."""
    credentials, lines = tmp_path / "credentials", []
    credentials.write_text(f"[far]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")

    def mount(server, bucket: str, prefix: str) -> Line:
        far = fresh()
        boto3_client(far).create_bucket(Bucket="far")
        lines.append(line := Line("127.0.0.1", far.port))
        where = {"endpoint": line.endpoint, "bucket": "far", "credentials_file": str(credentials), "profile": "far"}
        server.mount(bucket, prefix, "s3", **where)
        return line

    yield mount
    for line in lines:
        line.close()


def refusal(call) -> dict:
    """The error that a call ends with."""
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call()
    return refused.value.response


def test_a_mount_that_hangs_fails_its_own_keys(fresh, remote):
    """Its storage takes connections and never answers. Its keys are answered 503; those of all other mounts of the bucket are served,
    while somebody waits for it too; a listing that spans it names it; and it comes back by itself."""
    server = fresh(config="[mounts]\ntimeout_secs = 2\nbreaker_failures = 3\nbreaker_recovery_secs = 1\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="house")
    server.mount("house", "memory/", "memory")
    line = remote(server, "house", "remote/")
    keys = ("mine", "memory/k", "remote/k")
    for key in keys:
        s3.put_object(Bucket="house", Key=key, Body=key.encode())
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="house")["Contents"]] == sorted(keys)
    line.hang()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(wire.send, "GET", "/house/remote/k") for _ in range(20)]
        for turn in range(20):
            for key in ("mine", "memory/k", f"new-{turn}"):
                assert wire.send("PUT", f"/house/{key}", key.encode()).status == 200
                assert wire.send("GET", f"/house/{key}").body == key.encode()
        for one in waiting:
            one.result(60).is_error(503, "ServiceUnavailable", "/house/remote/k")
    # Now that it is known to hang, or is found to hang again.
    for call in (
        lambda: s3.list_objects_v2(Bucket="house"),
        lambda: s3.list_objects_v2(Bucket="house", Delimiter="/"),
        lambda: s3.list_objects_v2(Bucket="house", Prefix="remote/"),
        lambda: s3.list_object_versions(Bucket="house"),
    ):
        told = refusal(call)
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert told["Error"] == {**told["Error"], "Code": "ServiceUnavailable", "Message": "The storage mounted at `remote/` does not answer."}
    listed = s3.list_objects_v2(Bucket="house", Prefix="m")
    assert [entry["Key"] for entry in listed["Contents"]] == ["memory/k", "mine"], "a listing that does not reach it is served"
    assert server.metric("sluice_mount_circuit_opened_total") >= 1
    status, text = server.admin_get("/health/ready", timeout=15)
    assert status == 200 and ("house", "remote/") in [(one["bucket"], one["prefix"]) for one in json.loads(text)["mounts"]["failed"]], text
    line.mend()
    deadline = time.monotonic() + 60
    while wire.send("GET", "/house/remote/k").status != 200:
        assert time.monotonic() < deadline, "it does not come back"
        time.sleep(0.1)
    assert {entry["Key"] for entry in s3.list_objects_v2(Bucket="house")["Contents"]} >= set(keys)
    server.wait_for_metric("sluice_open_handles", 0, 30)


def test_handles_that_stand_still_are_closed(fresh, remote, request):
    """E14: downloads that nobody reads and an upload that stands still, to storage that hangs when it is given up, are closed by the
    sweep. At full size: within three seconds, other requests do not notice, and a download that goes on is left alone."""
    large = request.config.getoption("--large")
    server = fresh(config="[handles]\nsweep_secs = 1\nidle_secs = 1\n[mounts]\ntimeout_secs = 20\n")
    s3, wire = boto3_client(server), Wire(server.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="stale")
    server.mount("stale", "memory/", "memory")
    line = remote(server, "stale", "remote/")
    body = os.urandom(24 * MIB)
    for key in ("k", "memory/k"):
        s3.put_object(Bucket="stale", Key=key, Body=body)
    if large:
        s3.put_object(Bucket="stale", Key="long", Body=bytes(96 * MIB))

    def begun(key: str) -> socket.socket:
        """A download of which only the beginning is read."""
        # A small window: most of the object stays with the gateway.
        connection = wire.slow_connect(16_384)
        connection.sendall(wire.head("GET", f"/stale/{key}", wire.signer.headers("GET", f"/stale/{key}", None, {"host": wire.host})))
        assert connection.recv(12) == b"HTTP/1.1 200"
        return connection

    stop, read = threading.Event(), 0
    stalled: list[socket.socket] = []

    def read_slowly() -> None:
        """4 MiB a second: what the system holds for a connection on the loopback interface is less than a second's worth."""
        nonlocal read
        with begun("long") as slow:
            while not stop.is_set():
                got = len(slow.recv(16_384))
                assert got, "the slow reader was cut off"
                read += got
                stop.wait(0.004)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read_slowly if large else stop.wait)
        try:
            stalled += [begun(key) for key in ("k", "memory/k") * 10]
            upload = wire.connect(30)
            stalled.append(upload)
            headers = wire.signer.headers("PUT", "/stale/remote/k", None, {"host": wire.host, "content-length": str(len(body))})
            upload.sendall(wire.head("PUT", "/stale/remote/k", headers) + body[: 2 * MIB])
            began = time.monotonic()
            line.hang()
            took = []
            while server.metric("sluice_handles_reaped_total") < len(stalled):
                assert time.monotonic() - began < 30, f"{server.metric('sluice_handles_reaped_total')} of {len(stalled)} were closed"
                for _ in range(20):
                    asked = time.monotonic()
                    assert wire.send("HEAD", "/stale/k").status == 200
                    took.append(time.monotonic() - asked)
            reaped = time.monotonic() - began
            if large:
                # More sweeps, in which only the slow one is open.
                seen = read
                time.sleep(4)
                assert not reader.done() and read > seen + 4 * MIB, (seen, read)
        finally:
            stop.set()
            for connection in stalled:
                connection.close()
        reader.result(30)
    assert server.metric("sluice_handles_reaped_total") == len(stalled)
    server.wait_for_metric("sluice_open_handles", 0, 30)
    p99 = sorted(took)[len(took) * 99 // 100] * 1e3
    print(f"{len(stalled)} closed within {reaped:.1f} s; meanwhile {len(took)} HEADs, each with a connection of its own, p99 {p99:.1f} ms")
    if large:
        assert reaped <= 3 and p99 < 10
