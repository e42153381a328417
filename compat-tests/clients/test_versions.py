"""Versions under faults: kill -9 at random moments of a mixed workload, on keys that several clients fight for."""

import concurrent.futures
import hashlib
import os
import random
import threading
import time

import botocore.exceptions
import pytest
from conftest import boto3_client

# How often the gateway is killed; 200 for a thorough run.
KILLS = int(os.environ.get("SLUICE_KILLS", "12"))
KEYS = ["a", "a/b", "d/e/f", "x" * 300]


class Ledger:
    """What was acknowledged, and what nobody knows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # (key, version id) -> the bytes; None for a delete marker.
        self.there: dict[tuple[str, str], bytes | None] = {}
        # Removals that were asked for and not acknowledged.
        self.unsure: set[tuple[str, str]] = set()

    def some(self, chance: random.Random) -> tuple[str, str] | None:
        with self.lock:
            known = [name for name in self.there if name not in self.unsure]
        return chance.choice(known) if known else None


def versions_of(client, bucket: str) -> tuple[list[dict], list[dict]]:
    versions, markers = [], []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 7}):
        versions += page.get("Versions", [])
        markers += page.get("DeleteMarkers", [])
    return versions, markers


def leftovers(server) -> list[str]:
    """What the mount of the default namespace keeps beside the objects: staged files, records, older versions and their spare names."""
    found = []
    for hidden in server.data_dir.rglob(".sluice"):
        for part in ("staging", "records", "versions", "spare"):
            files = (path for path in (hidden / part).rglob("*") if path.is_file() and not path.name.endswith("lock"))
            found += [str(path.relative_to(server.data_dir)) for path in files]
    return sorted(found)


@pytest.mark.parametrize("xattrs", ["auto", "off"])
def test_kill_at_random_moments_loses_no_version(fresh, xattrs):
    """Every version and marker that was acknowledged is there and whole; none that was removed comes back; the newest is the current one;
    nothing is left behind when all are removed."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    server = fresh(config=f'[default_mount]\nxattrs = "{xattrs}"\n')
    client = boto3_client(server)
    client.create_bucket(Bucket="kept")
    client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    ledger = Ledger()

    def work(number: int, turn: int, going: threading.Event) -> None:
        s3, own = boto3_client(server), random.Random(f"{seed} {number} {turn}")
        while going.is_set():
            key, kind = own.choice(KEYS), own.random()
            name = ledger.some(own) if kind > 0.75 else None
            try:
                if kind <= 0.55:
                    body = own.randbytes(own.choice([0, 10, 5000, 200_000, 2 << 20]))
                    version = s3.put_object(Bucket="kept", Key=key, Body=body)["VersionId"]
                    with ledger.lock:
                        ledger.there[key, version] = body
                elif kind <= 0.75:
                    version = s3.delete_object(Bucket="kept", Key=key)["VersionId"]
                    with ledger.lock:
                        ledger.there[key, version] = None
                elif name is not None and kind <= 0.9:
                    with ledger.lock:
                        ledger.unsure.add(name)
                    s3.delete_object(Bucket="kept", Key=name[0], VersionId=name[1])
                    with ledger.lock:
                        ledger.there.pop(name, None)
                elif name is not None and ledger.there.get(name) is not None:
                    source = {"Bucket": "kept", "Key": name[0], "VersionId": name[1]}
                    body = ledger.there.get(name)
                    version = s3.copy_object(Bucket="kept", Key=key, CopySource=source)["VersionId"]
                    with ledger.lock:
                        ledger.there[key, version] = body
            except botocore.exceptions.ClientError:
                # The source of a copy was removed by somebody else.
                continue
            except (botocore.exceptions.BotoCoreError, KeyError):
                return

    for turn in range(KILLS):
        going = threading.Event()
        going.set()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            workers = [pool.submit(work, number, turn, going) for number in range(6)]
            time.sleep(chance.uniform(0.05, 0.8))
            server.kill()
            going.clear()
            for worker in workers:
                worker.result(60)
        server.start()
        client = boto3_client(server)
        versions, markers = versions_of(client, "kept")
        listed = {(entry["Key"], entry["VersionId"]) for entry in versions + markers}
        assert len(listed) == len(versions) + len(markers), f"seed {seed}: a version is listed twice"
        for name, body in ledger.there.items():
            if name in ledger.unsure:
                continue
            assert name in listed, f"seed {seed}, turn {turn}: {name} was acknowledged and is gone"
            if body is not None and chance.random() < 0.3:
                got = client.get_object(Bucket="kept", Key=name[0], VersionId=name[1])["Body"].read()
                assert got == body, f"seed {seed}: {name} has other bytes"
        gone = [name for name in ledger.unsure if name not in ledger.there and name in listed]
        assert not gone, f"seed {seed}: removed and back again: {gone}"
        for entry in versions:
            got = client.get_object(Bucket="kept", Key=entry["Key"], VersionId=entry["VersionId"])["Body"].read()
            assert f'"{hashlib.md5(got).hexdigest()}"' == entry["ETag"], f"seed {seed}: a torn version of {entry['Key']}"
        latest = {entry["Key"]: entry["VersionId"] for entry in versions if entry["IsLatest"]}
        for key in KEYS:
            try:
                current = client.head_object(Bucket="kept", Key=key)["VersionId"]
            except botocore.exceptions.ClientError as error:
                assert error.response["Error"]["Code"] == "404"
                current = None
            assert current == latest.get(key), f"seed {seed}: {key} is not its newest version"
        keys = {entry["Key"] for entry in client.list_objects_v2(Bucket="kept").get("Contents", [])}
        assert keys == set(latest), f"seed {seed}: the listing of objects and that of versions differ"
        # What nobody knew is known now.
        ledger.there = {name: body for name, body in ledger.there.items() if name in listed}
        ledger.unsure.clear()
        for entry in versions:
            name = (entry["Key"], entry["VersionId"])
            if name not in ledger.there:
                ledger.there[name] = client.get_object(Bucket="kept", Key=name[0], VersionId=name[1])["Body"].read()
        # Few stay, so that the next turn is about new ones.
        for name in list(ledger.there)[:-20]:
            client.delete_object(Bucket="kept", Key=name[0], VersionId=name[1])
            del ledger.there[name]
    # What the last kills left is swept at the start; then everything can be removed, and leaves nothing behind.
    versions, markers = versions_of(client, "kept")
    for entry in versions + markers:
        client.delete_object(Bucket="kept", Key=entry["Key"], VersionId=entry["VersionId"])
    until = time.monotonic() + 60
    while leftovers(server) and time.monotonic() < until:
        time.sleep(0.05)
    assert not leftovers(server), f"seed {seed}: orphans"
    client.delete_bucket(Bucket="kept")
