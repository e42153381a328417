"""Lifecycle rules: what is kept of them, what a plan tells, what a run removes."""

import contextlib
import json
import os
import random
import re
import threading
import time
import urllib.request

import botocore.exceptions
import pytest
from conftest import boto3_client

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
        },
    ]
    put(s3, bucket, *rules)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    # A refused document leaves the old one in force.
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidArgument"):
        put(s3, bucket, rule("zero", "", Expiration={"Days": 0}))
    with pytest.raises(botocore.exceptions.ClientError, match="NotImplemented"):
        put(s3, bucket, rule("cold", "", Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]))
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
    deadline = time.monotonic() + 20
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
    deadline = time.monotonic() + 20
    while not (markers := s3.list_object_versions(Bucket="versions").get("DeleteMarkers")):
        assert time.monotonic() < deadline, "the object has not expired"
        time.sleep(0.2)
    time.sleep(2.5)
    found = s3.list_object_versions(Bucket="versions")
    assert len(found["Versions"]) == 1 and found["DeleteMarkers"] == markers and markers[0]["IsLatest"]
    version = found["Versions"][0]["VersionId"]
    assert s3.get_object(Bucket="versions", Key="k", VersionId=version)["Body"].read() == b"1"


def resident_mib(server) -> float:
    with urllib.request.urlopen(f"{server.admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[1]) / 2**20


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
    going, rewritten, failed = threading.Event(), set(), []

    def traffic(which: int) -> None:
        own, chance = boto3_client(server), random.Random(which)
        try:
            while not going.is_set():
                number = chance.randrange(count)
                key = f"{'keep' if number % 5 == 0 else 'old'}/{number // 1000:03}/{number:06}"
                if number % 10 == 0:
                    own.get_object(Bucket="many", Key=key)["Body"].read()
                elif key in due:
                    own.put_object(Bucket="many", Key=key, Body=b"written again")
                    rewritten.add(key)
                else:
                    own.put_object(Bucket="many", Key=f"new/{which}/{chance.randrange(1000)}", Body=b"new")
        except botocore.exceptions.BotoCoreError as error:
            failed.append(error)

    clients = [threading.Thread(target=traffic, args=(which,)) for which in range(3)]
    for client in clients:
        client.start()
    try:
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
    finally:
        going.set()
        for client in clients:
            client.join(60)
    took = time.monotonic() - began
    assert not failed
    listed = {entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="many") for entry in page.get("Contents", [])}
    everything = {f"{'keep' if n % 5 == 0 else 'old'}/{n // 1000:03}/{n:06}" for n in range(count)}
    assert {key for key in listed if not key.startswith("new/")} == everything - due | rewritten
    print(f"\n{len(due)} of {count} objects in {took:.0f} s, {len(rewritten)} of them written again; resident {before:.0f} -> {most:.0f} MiB")
    assert most < before + 128, f"{before} -> {most} MiB"
