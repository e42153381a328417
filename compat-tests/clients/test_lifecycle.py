"""Lifecycle rules: what is kept of them, what a plan tells, what a run removes."""

import contextlib
import json
import os
import random
import re
import sqlite3
import threading
import time
import urllib.request

import botocore.exceptions
import pytest
from conftest import MEMORY, boto3_client
from gateway import POSTGRES

LONG_AGO = "2020-01-01T00:00:00Z"


def rule(name: str, prefix: str, **actions) -> dict:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **actions}


def put(s3, bucket: str, *rules: dict) -> None:
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})


def test_rules_are_kept_as_they_were_put(s3, bucket):
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    rules = [
        rule("days", "logs/", Expiration={"Days": 30}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2}),
        {
            "ID": "and",
            "Status": "Disabled",
            "Filter": {"And": {"Prefix": "p", "Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 5}},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
            "NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "GLACIER_IR"}],
            "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}, {"Days": 90, "StorageClass": "GLACIER"}],
        },
    ]
    put(s3, bucket, *rules)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    # A refused document leaves the old one in force.
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidArgument"):
        put(s3, bucket, rule("zero", "", Expiration={"Days": 0}))
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidArgument"):
        put(s3, bucket, rule("cold", "", Transitions=[{"Days": 1, "StorageClass": "STANDARD_IA"}]))
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_an_object_tells_when_it_expires(s3, bucket):
    put(s3, bucket, rule("a day", "tmp/", Expiration={"Days": 1}))
    told = s3.put_object(Bucket=bucket, Key="tmp/k", Body=b"x")["Expiration"]
    assert told.startswith('expiry-date="') and told.endswith('00:00:00 GMT", rule-id="a%20day"')
    assert s3.head_object(Bucket=bucket, Key="tmp/k")["Expiration"] == told
    assert s3.get_object(Bucket=bucket, Key="tmp/k")["Expiration"] == told
    s3.put_object(Bucket=bucket, Key="other", Body=b"x")
    assert "Expiration" not in s3.head_object(Bucket=bucket, Key="other")


def test_a_plan_changes_nothing_and_a_run_does_what_it_said(fresh):
    server = fresh(config="[lifecycle]\ninterval_secs = 2\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="rules")
    for number in range(50):
        s3.put_object(Bucket="rules", Key=f"old/{number:02}", Body=b"12345")
        s3.put_object(Bucket="rules", Key=f"new/{number:02}", Body=b"x")
    s3.create_multipart_upload(Bucket="rules", Key="old/upload")
    put(s3, "rules", rule("later", "new/", Expiration={"Days": 2}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}))
    plan = json.loads(server.command("lifecycle", "plan", "rules", "--at", "2200-01-01T00:00:00Z", "--limit", "3", "--json").stdout)
    assert (plan["seen"], plan["expire"], plan["bytes"], plan["abort_uploads"]) == (51, 50, 50, 0)
    assert [step["key"] for step in plan["steps"]] == ["new/00", "new/01", "new/02"]
    assert json.loads(server.command("lifecycle", "plan", "rules", "--json").stdout)["expire"] == 0
    assert "nothing was changed" in server.command("lifecycle", "plan", "rules").stdout
    put(s3, "rules", rule("now", "old/", Expiration={"Date": LONG_AGO}))
    deadline = time.monotonic() + 60
    while (keys := [entry["Key"] for entry in s3.list_objects_v2(Bucket="rules")["Contents"]])[-1] != "new/49":
        assert time.monotonic() < deadline, f"{len(keys)} objects are left"
        time.sleep(0.2)
    assert keys == [f"new/{number:02}" for number in range(50)]
    assert s3.list_multipart_uploads(Bucket="rules")["Uploads"][0]["Key"] == "old/upload"


def test_versions_expire_but_for_what_is_locked(fresh):
    server = fresh(config="[lifecycle]\ninterval_secs = 1\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="versions", ObjectLockEnabledForBucket=True)
    s3.put_object(Bucket="versions", Key="k", Body=b"1", ObjectLockLegalHoldStatus="ON")
    put(s3, "versions", rule("now", "", Expiration={"Date": LONG_AGO}))
    deadline = time.monotonic() + 60
    while not (markers := s3.list_object_versions(Bucket="versions").get("DeleteMarkers")):
        assert time.monotonic() < deadline, "the object has not expired"
        time.sleep(0.2)
    time.sleep(2.5)
    found = s3.list_object_versions(Bucket="versions")
    assert len(found["Versions"]) == 1 and found["DeleteMarkers"] == markers and markers[0]["IsLatest"]
    version = found["Versions"][0]["VersionId"]
    assert s3.get_object(Bucket="versions", Key="k", VersionId=version)["Body"].read() == b"1"


def keep_class(server, bucket: str, root, storage_class: str = "GLACIER_IR") -> None:
    """A mount that keeps a storage class of a bucket."""
    server.command("mount", "add", bucket, f"storage-class:{storage_class}", "local", "--set", f"root={root}")


def to_glacier(prefix: str = "") -> dict:
    """A rule that has moved everything, whatever its size, since long ago."""
    about = {"And": {"Prefix": prefix, "ObjectSizeGreaterThan": 0}}
    return {"ID": "cold", "Status": "Enabled", "Filter": about, "Transitions": [{"Date": LONG_AGO, "StorageClass": "GLACIER_IR"}]}


def blobs(root) -> int:
    return sum(path.is_file() for path in root.rglob("*") if ".sluice" not in path.relative_to(root).parts)


def test_what_has_moved_is_served_as_before(fresh, tmp_path):
    server = fresh(config="[lifecycle]\ninterval_secs = 1\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="cold")
    s3.put_bucket_versioning(Bucket="cold", VersioningConfiguration={"Status": "Enabled"})
    cold = tmp_path / "cold"
    keep_class(server, "cold", cold)
    whole = random.Random(1).randbytes(300_000)
    customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
    s3.put_object(Bucket="cold", Key="d/plain", Body=whole, Metadata={"a": "b"}, Tagging="t=1", ChecksumAlgorithm="SHA256")
    s3.put_object(Bucket="cold", Key="d/sealed", Body=whole, **customer)
    upload = s3.create_multipart_upload(Bucket="cold", Key="d/parts")["UploadId"]
    parts = [whole[:1] * (5 << 20), whole]
    done = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket="cold", Key="d/parts", UploadId=upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, start=1)
    ]
    s3.complete_multipart_upload(Bucket="cold", Key="d/parts", UploadId=upload, MultipartUpload={"Parts": done})
    before = {key: s3.head_object(Bucket="cold", Key=f"d/{key}", **how) for key, how in (("plain", {}), ("sealed", customer), ("parts", {}))}
    put(s3, "cold", to_glacier("d/"))
    plan = json.loads(server.command("lifecycle", "plan", "cold", "--json").stdout)
    deadline = time.monotonic() + 60
    while {entry["StorageClass"] for entry in s3.list_objects_v2(Bucket="cold")["Contents"]} != {"GLACIER_IR"}:
        assert time.monotonic() < deadline, "not all has moved"
        time.sleep(0.1)
    # The run may have been at it already when the plan was made.
    assert plan["moves"] <= 3 and all(step["storage_class"] == "GLACIER_IR" for step in plan["steps"])
    for key, how in (("plain", {}), ("sealed", customer), ("parts", {})):
        head = s3.head_object(Bucket="cold", Key=f"d/{key}", **how)
        assert head["StorageClass"] == "GLACIER_IR"
        for field in ("ETag", "LastModified", "ContentLength", "VersionId", "Metadata"):
            assert head[field] == before[key][field], (key, field)
    sizes = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket="cold")["Contents"]}
    assert sizes == {"d/plain": 300_000, "d/sealed": 300_000, "d/parts": (5 << 20) + 300_000}
    for key, how in (("plain", {}), ("sealed", customer)):
        assert s3.get_object(Bucket="cold", Key=f"d/{key}", **how)["Body"].read() == whole
        got = s3.get_object(Bucket="cold", Key=f"d/{key}", Range="bytes=65530-131080", **how)
        assert got["Body"].read() == whole[65530:131081] and got["ContentRange"] == "bytes 65530-131080/300000"
    assert s3.get_object(Bucket="cold", Key="d/parts", PartNumber=2)["Body"].read() == whole
    assert s3.get_object_tagging(Bucket="cold", Key="d/plain")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket="cold", Key="copy", CopySource="cold/d/plain")
    assert s3.get_object(Bucket="cold", Key="copy")["Body"].read() == whole
    # What objects need is not unmounted; what is removed takes its bytes along.
    refused = server.command("mount", "rm", "cold", "storage-class:GLACIER_IR", check=False)
    assert refused.returncode != 0 and "DeleteConflict" in refused.stderr
    assert blobs(cold) == 3
    for version in s3.list_object_versions(Bucket="cold")["Versions"]:
        s3.delete_object(Bucket="cold", Key=version["Key"], VersionId=version["VersionId"])
    assert blobs(cold) == 0
    server.command("mount", "rm", "cold", "storage-class:GLACIER_IR")
    with urllib.request.urlopen(f"{server.admin}/metrics", timeout=10) as answer:
        assert 'sluice_lifecycle_actions_total{action="move"} 3' in answer.read().decode()


def nobody_has_the_turn(server) -> None:
    """As if the minute had gone by after which another gateway takes the place of one that died in a run."""
    with contextlib.closing(sqlite3.connect(server.data_dir / "sluice.db")) as store, store:
        store.execute("DELETE FROM installation WHERE name = 'lifecycle.lease'")


@pytest.mark.skipif(bool(POSTGRES), reason="looks into the store's file")
def test_killed_while_objects_move(fresh, tmp_path):
    """Whenever it is killed, every object reads as it was written, and no bytes are lost or torn."""
    server = fresh(config="[lifecycle]\ninterval_secs = 1\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="cold")
    cold, chance, kept = tmp_path / "cold", random.Random(6), {}
    keep_class(server, "cold", cold)
    put(s3, "cold", to_glacier())
    for turn in range(4):
        s3 = boto3_client(server)
        for number in range(12):
            key = f"{turn * 8 + number:03}"
            kept[key] = chance.randbytes(chance.randrange(1, 400_000))
            s3.put_object(Bucket="cold", Key=key, Body=kept[key])
        # Some are at it, some have moved, some have not.
        moved, deadline = blobs(cold), time.monotonic() + 20
        while blobs(cold) < moved + turn and time.monotonic() < deadline:
            time.sleep(0.002)
        server.kill()
        nobody_has_the_turn(server)
        server.start()
    s3 = boto3_client(server)
    for key, body in kept.items():
        assert s3.get_object(Bucket="cold", Key=key)["Body"].read() == body
    deadline = time.monotonic() + 60
    while {entry["StorageClass"] for entry in s3.list_objects_v2(Bucket="cold")["Contents"]} != {"GLACIER_IR"}:
        assert time.monotonic() < deadline, "not all has moved"
        time.sleep(0.1)
    for key, body in kept.items():
        assert s3.get_object(Bucket="cold", Key=key)["Body"].read() == body
        assert (server.data_dir / "buckets" / "cold" / key).stat().st_size == 0, "its own bytes are gone"


def resident_mib(server) -> float:
    with urllib.request.urlopen(f"{server.admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[1]) / 2**20


class Traffic:
    """Clients that read what is kept, write what is new, and rewrite what is due, for as long as the block lasts."""

    def __init__(self, server, bucket: str, count: int, due: set[str]):
        self.server, self.bucket, self.count, self.due = server, bucket, count, due
        self.going, self.rewritten, self.failed = threading.Event(), set(), []
        self.clients = [threading.Thread(target=self.run, args=(which,)) for which in range(3)]

    def run(self, which: int) -> None:
        own, chance = boto3_client(self.server), random.Random(which)
        try:
            while not self.going.is_set():
                number = chance.randrange(self.count)
                key = numbered(number)
                if number % 10 == 0:
                    own.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                elif key in self.due:
                    own.put_object(Bucket=self.bucket, Key=key, Body=b"written again")
                    self.rewritten.add(key)
                else:
                    own.put_object(Bucket=self.bucket, Key=f"new/{which}/{chance.randrange(1000)}", Body=b"new")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            self.failed.append(error)

    def __enter__(self) -> "Traffic":
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_) -> None:
        self.going.set()
        for client in self.clients:
            client.join(60)

    def check(self, s3) -> None:
        """What the plan named is gone, but for what was written again; all else is there."""
        assert not self.failed
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        listed = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
        everything = {numbered(number) for number in range(self.count)}
        assert {key for key in listed if not key.startswith("new/")} == everything - self.due | self.rewritten


def numbered(number: int) -> str:
    """The key of a number; every fifth is kept."""
    return f"{'keep' if number % 5 == 0 else 'old'}/{number // 1000:03}/{number:06}"


@pytest.mark.large
def test_a_run_over_a_hundred_thousand_objects_does_what_its_plan_said(fresh):
    """While clients read, write and rewrite: what the plan named goes, but for what was written again; all else stays."""
    count = int(os.environ.get("SLUICE_LIFECYCLE_OBJECTS", "100000"))
    server = fresh(config="[lifecycle]\ninterval_secs = 100000\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="many")
    s3.put_object(Bucket="many", Key="probe", Body=b"x")
    [probe] = [path for path in server.data_dir.rglob("probe") if path.is_file()]
    probe.unlink()
    # Files that were there before count as objects of their age.
    long_ago = time.time() - 10 * 24 * 3600
    for number in range(count):
        kind = "keep" if number % 5 == 0 else "old"
        path = probe.parent / kind / f"{number // 1000:03}" / f"{number:06}"
        if number % 1000 < 5:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345" if number % 7 else b"")
        os.utime(path, (long_ago, long_ago))
    put(s3, "many", {"ID": "r", "Status": "Enabled", "Filter": {"And": {"Prefix": "old/", "ObjectSizeGreaterThan": 0}}, "Expiration": {"Days": 3}})
    due = {f"old/{n // 1000:03}/{n:06}" for n in range(count) if n % 5 and n % 7}
    plan = json.loads(server.command("lifecycle", "plan", "many", "--limit", "10000", "--json").stdout)
    assert (plan["expire"], plan["bytes"]) == (len(due), 5 * len(due))
    assert {step["key"] for step in plan["steps"]} == set(sorted(due)[:10000])

    server.stop()
    server.config = "[lifecycle]\ninterval_secs = 3\nremovals_per_sec = 2000\n"
    server.start()
    before, most, began, began_at = resident_mib(server), 0.0, time.monotonic(), time.time()
    with Traffic(server, "many", count, due) as traffic:
        left = len(due)
        while left:
            assert time.monotonic() < began + 1200, f"{left} objects are left"
            time.sleep(1)
            most = max(most, resident_mib(server))
            left = 0
            for folder, _, names in os.walk(probe.parent / "old"):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        seen = os.stat(os.path.join(folder, name))
                        left += seen.st_size == 5 and seen.st_mtime < began_at - 86400
    took = time.monotonic() - began
    traffic.check(s3)
    print(f"\n{len(due)} of {count} objects in {took:.0f} s, {len(traffic.rewritten)} of them written again; resident {before:.0f} -> {most:.0f} MiB")
    assert most < before + 128, f"{before} -> {most} MiB"


@pytest.mark.large
def test_a_run_over_a_hundred_thousand_objects_in_memory(fresh):
    """The same where a restart would lose everything: the rule comes into force by a date."""
    count = int(os.environ.get("SLUICE_LIFECYCLE_OBJECTS", "100000"))
    server = fresh(config=MEMORY + "[lifecycle]\ninterval_secs = 3\nremovals_per_sec = 2000\n")
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="many")

    def fill(which: int) -> None:
        own = boto3_client(server)
        for number in range(which, count, 4):
            own.put_object(Bucket="many", Key=numbered(number), Body=b"12345" if number % 7 else b"")

    fillers = [threading.Thread(target=fill, args=(which,)) for which in range(4)]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join()
    # What is written again is longer, and stays.
    about = {"And": {"Prefix": "old/", "ObjectSizeGreaterThan": 0, "ObjectSizeLessThan": 10}}
    put(s3, "many", {"ID": "r", "Status": "Enabled", "Filter": about, "Expiration": {"Days": 3}})
    due = {numbered(n) for n in range(count) if n % 5 and n % 7}
    ask = ("lifecycle", "plan", "many", "--at", "2200-01-01T00:00:00Z", "--limit", "10000", "--json")
    plan = json.loads(server.command(*ask).stdout)
    assert (plan["expire"], plan["bytes"]) == (len(due), 5 * len(due))
    assert {step["key"] for step in plan["steps"]} == set(sorted(due)[:10000])
    before, most, began, left = resident_mib(server), 0.0, time.monotonic(), len(due)
    with Traffic(server, "many", count, due) as traffic:
        put(s3, "many", {"ID": "r", "Status": "Enabled", "Filter": about, "Expiration": {"Date": LONG_AGO}})
        while left:
            assert time.monotonic() < began + 1200, f"{left} objects are left"
            time.sleep(1)
            most = max(most, resident_mib(server))
            left = json.loads(server.command("lifecycle", "plan", "many", "--limit", "0", "--json").stdout)["expire"]
    took = time.monotonic() - began
    traffic.check(s3)
    print(f"\n{len(due)} of {count} objects in {took:.0f} s, {len(traffic.rewritten)} of them written again; resident {before:.0f} -> {most:.0f} MiB")
    assert most < before + 128, f"{before} -> {most} MiB"
