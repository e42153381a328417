"""Lifecycle rules: what is kept of them, what a plan tells, what a run removes."""

import json
import time

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
