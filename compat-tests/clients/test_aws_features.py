"""What a bucket and an object can remember, through the aws command line: a script for each feature.

A process of the command line takes a second, so the everyday run does most of the scripts with version 1 inside this process. `--large` does all of them, on
all providers, also with the command line of the machine (version 2).
"""

import contextlib
import functools
import io
import json
import os
import subprocess
import uuid

import pytest
from conftest import Tool, client_environment

LOCKED = {"Mode": "GOVERNANCE", "RetainUntilDate": "2090-01-01T00:00:00Z"}


class Cli:
    """`aws s3api OPERATION`, its input as one JSON document, its output read."""

    def __init__(self, run):
        self.run = run

    def __call__(self, operation: str, *arguments: str, **parameters) -> dict:
        done = self.run("s3api", operation, *arguments, "--cli-input-json", json.dumps(parameters))
        assert done.returncode == 0, f"{operation}: {done.stderr!r}"
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def refused(self, operation: str, code: str, *arguments: str, **parameters) -> None:
        done = self.run("s3api", operation, *arguments, "--cli-input-json", json.dumps(parameters))
        assert done.returncode != 0 and code in done.stderr, f"{operation}: {done.returncode} {done.stderr!r}"


def in_this_process(driver, *arguments: str) -> subprocess.CompletedProcess:
    """Version 1, without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = driver.main(list(arguments))
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


LARGE = pytest.mark.large


@pytest.fixture(params=[("v1", "local"), *(pytest.param(both, marks=LARGE) for both in (("v1", "memory"), ("v2", "local"), ("v2", "memory")))], ids="-".join)
def cli(request, home, tmp_path, monkeypatch):
    """Both command lines on both providers."""
    version, provider = request.param
    server = request.getfixturevalue(provider)
    environment = client_environment(home, server)
    if version == "v1":
        clidriver = pytest.importorskip("awscli.clidriver")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        # What takes long is reading what there is to call, which one driver does once.
        return Cli(functools.partial(in_this_process, clidriver.create_clidriver()))
    if not os.path.exists("/usr/bin/aws"):
        pytest.skip("Debian's awscli is not installed")
    # Version 2.9 does not know AWS_ENDPOINT_URL yet.
    tool = Tool("/usr/bin/aws", "--endpoint-url", server.endpoint, env=environment, cwd=tmp_path)
    return Cli(lambda *arguments: tool(*arguments, check=False, text=True))


@pytest.fixture
def new(cli):
    """A new bucket of this command line."""

    def make(**parameters) -> str:
        name = f"features-{uuid.uuid4().hex[:12]}"
        cli("create-bucket", Bucket=name, **parameters)
        return name

    return make


def put(cli, tmp_path, bucket: str, key: str, body: bytes, **parameters) -> str:
    """Stores an object; its version."""
    (tmp_path / "body").write_bytes(body)
    return cli("put-object", "--body", str(tmp_path / "body"), Bucket=bucket, Key=key, **parameters).get("VersionId", "null")


def read(cli, tmp_path, bucket: str, key: str, *arguments: str) -> bytes:
    """An object, or what else the arguments say of it. The command line takes no document beside a file."""
    done = cli.run("s3api", "get-object", "--bucket", bucket, "--key", key, *arguments, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    return (tmp_path / "out").read_bytes()


def test_versions(cli, new, tmp_path):
    bucket = new()
    put(cli, tmp_path, bucket, "k", b"null")
    cli("put-bucket-versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert cli("get-bucket-versioning", Bucket=bucket) == {"Status": "Enabled"}
    one, two = put(cli, tmp_path, bucket, "k", b"one"), put(cli, tmp_path, bucket, "k", b"two")
    marker = cli("delete-object", Bucket=bucket, Key="k")
    assert marker["DeleteMarker"]
    cli.refused("head-object", "404", Bucket=bucket, Key="k")
    listed = cli("list-object-versions", Bucket=bucket)
    assert [version["VersionId"] for version in listed["Versions"]] == [two, one, "null"]
    assert listed["DeleteMarkers"][0]["VersionId"] == marker["VersionId"]
    assert read(cli, tmp_path, bucket, "k", "--version-id", one) == b"one"
    cli("delete-object", Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert read(cli, tmp_path, bucket, "k") == b"two"
    cli("put-bucket-versioning", Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert put(cli, tmp_path, bucket, "k", b"again") == "null"
    assert len(cli("list-object-versions", Bucket=bucket)["Versions"]) == 3


def test_object_lock(cli, new, tmp_path):
    bucket = new(ObjectLockEnabledForBucket=True)
    default = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    cli("put-object-lock-configuration", Bucket=bucket, ObjectLockConfiguration=default)
    assert cli("get-object-lock-configuration", Bucket=bucket)["ObjectLockConfiguration"] == default
    version = put(cli, tmp_path, bucket, "k", b"locked")
    assert cli("get-object-retention", Bucket=bucket, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
    cli.refused("delete-object", "AccessDenied", Bucket=bucket, Key="k", VersionId=version)
    cli("put-object-retention", Bucket=bucket, Key="k", Retention=LOCKED)
    cli("put-object-legal-hold", Bucket=bucket, Key="k", LegalHold={"Status": "ON"})
    assert cli("get-object-legal-hold", Bucket=bucket, Key="k")["LegalHold"]["Status"] == "ON"
    cli.refused("delete-object", "AccessDenied", Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)
    cli("put-object-legal-hold", Bucket=bucket, Key="k", LegalHold={"Status": "OFF"})
    cli("delete-object", Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)


@LARGE
def test_tags(cli, new, tmp_path):
    bucket = new()
    cli.refused("get-bucket-tagging", "NoSuchTagSet", Bucket=bucket)
    cli("put-bucket-tagging", Bucket=bucket, Tagging={"TagSet": [{"Key": "team", "Value": "a b"}]})
    assert cli("get-bucket-tagging", Bucket=bucket)["TagSet"] == [{"Key": "team", "Value": "a b"}]
    cli("delete-bucket-tagging", Bucket=bucket)
    cli("put-bucket-versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = put(cli, tmp_path, bucket, "k", b"1", Tagging="v=1")
    put(cli, tmp_path, bucket, "k", b"2", Tagging="v=2")
    cli("put-object-tagging", Bucket=bucket, Key="k", VersionId=old, Tagging={"TagSet": [{"Key": "v", "Value": "old"}]})
    assert cli("get-object-tagging", Bucket=bucket, Key="k", VersionId=old)["TagSet"] == [{"Key": "v", "Value": "old"}]
    assert cli("get-object-tagging", Bucket=bucket, Key="k")["TagSet"] == [{"Key": "v", "Value": "2"}]
    assert cli("head-object", Bucket=bucket, Key="k").get("TagCount", 1) == 1
    cli("delete-object-tagging", Bucket=bucket, Key="k", VersionId=old)
    assert cli("get-object-tagging", Bucket=bucket, Key="k", VersionId=old)["TagSet"] == []


@LARGE
def test_access(cli, new, tmp_path):
    """Policies and their status, public access blocks, ownership controls, ACLs."""
    bucket = new()
    put(cli, tmp_path, bucket, "k", b"x")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cli.refused("get-bucket-policy", "NoSuchBucketPolicy", Bucket=bucket)
    cli("delete-public-access-block", Bucket=bucket)
    cli("put-bucket-policy", Bucket=bucket, Policy=policy)
    assert json.loads(cli("get-bucket-policy", Bucket=bucket)["Policy"]) == json.loads(policy)
    assert cli("get-bucket-policy-status", Bucket=bucket)["PolicyStatus"]["IsPublic"]
    cli.refused("put-bucket-policy", "MalformedPolicy", Bucket=bucket, Policy='{"Version": "2012-10-17"}')
    block = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
    cli("put-public-access-block", Bucket=bucket, PublicAccessBlockConfiguration=block)
    assert cli("get-public-access-block", Bucket=bucket)["PublicAccessBlockConfiguration"] == block
    cli.refused("put-bucket-policy", "AccessDenied", Bucket=bucket, Policy=policy)
    cli("delete-bucket-policy", Bucket=bucket)
    cli("delete-public-access-block", Bucket=bucket)
    owns = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    cli("put-bucket-ownership-controls", Bucket=bucket, OwnershipControls=owns)
    assert cli("get-bucket-ownership-controls", Bucket=bucket)["OwnershipControls"] == owns
    cli("put-bucket-acl", Bucket=bucket, ACL="public-read")
    cli("put-object-acl", Bucket=bucket, Key="k", ACL="public-read")
    for found in (cli("get-bucket-acl", Bucket=bucket), cli("get-object-acl", Bucket=bucket, Key="k")):
        grants = {(grant["Grantee"].get("URI", "owner").rpartition("/")[2], grant["Permission"]) for grant in found["Grants"]}
        assert grants == {("owner", "FULL_CONTROL"), ("AllUsers", "READ")}
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    cli.refused("put-bucket-ownership-controls", "InvalidBucketAclWithObjectOwnership", Bucket=bucket, OwnershipControls=enforced)
    cli("put-bucket-acl", Bucket=bucket, ACL="private")
    cli("put-bucket-ownership-controls", Bucket=bucket, OwnershipControls=enforced)
    cli.refused("put-object-acl", "AccessControlListNotSupported", Bucket=bucket, Key="k", ACL="public-read")


def test_cors_and_lifecycle(cli, new):
    bucket = new()
    cli.refused("get-bucket-cors", "NoSuchCORSConfiguration", Bucket=bucket)
    rules = [{"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example.com"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 60}]
    cli("put-bucket-cors", Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert cli("get-bucket-cors", Bucket=bucket)["CORSRules"] == rules
    cli("delete-bucket-cors", Bucket=bucket)
    cli.refused("get-bucket-lifecycle-configuration", "NoSuchLifecycleConfiguration", Bucket=bucket)
    rules = [
        {
            "ID": "a",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "p/", "Tags": [{"Key": "k", "Value": "v"}]}},
            "Expiration": {"Days": 90},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
        },
        {"ID": "b", "Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]
    cli("put-bucket-lifecycle-configuration", Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert cli("get-bucket-lifecycle-configuration", Bucket=bucket)["Rules"] == rules
    cli("delete-bucket-lifecycle", Bucket=bucket)


def test_encryption(cli, new, tmp_path):
    bucket = new()
    customer = ["--sse-customer-algorithm", "AES256", "--sse-customer-key", "fileb://" + str(tmp_path / "key")]
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "body").write_bytes(b"0123456789" * 20_000)
    cli("put-object", "--body", str(tmp_path / "body"), *customer, Bucket=bucket, Key="c")
    assert read(cli, tmp_path, bucket, "c", *customer, "--range", "bytes=65530-65549") == b"01234567890123456789"
    cli.refused("head-object", "400", Bucket=bucket, Key="c")
    default = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]}
    cli("put-bucket-encryption", Bucket=bucket, ServerSideEncryptionConfiguration=default)
    assert cli("get-bucket-encryption", Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "AES256"
    }
    put(cli, tmp_path, bucket, "s", b"x" * 1000)
    assert cli("head-object", Bucket=bucket, Key="s")["ServerSideEncryption"] == "AES256"
    put(cli, tmp_path, bucket, "k", b"x" * 1000, ServerSideEncryption="aws:kms")
    assert cli("head-object", Bucket=bucket, Key="k")["ServerSideEncryption"] == "aws:kms"
    assert read(cli, tmp_path, bucket, "k", "--range", "bytes=990-") == b"x" * 10
    cli("delete-bucket-encryption", Bucket=bucket)


def test_what_is_not_configured(cli, new, tmp_path):
    """Well-formed answers of a bucket that has none of it, and NotImplemented for who wants it."""
    bucket = new()
    put(cli, tmp_path, bucket, "k", b"x")
    cli.refused("get-bucket-replication", "ReplicationConfigurationNotFoundError", Bucket=bucket)
    cli.refused("get-bucket-website", "NoSuchWebsiteConfiguration", Bucket=bucket)
    assert cli("get-bucket-accelerate-configuration", Bucket=bucket) == {}
    assert cli("get-bucket-request-payment", Bucket=bucket) == {"Payer": "BucketOwner"}
    assert cli("get-bucket-logging", Bucket=bucket) == {}
    assert cli("get-bucket-notification-configuration", Bucket=bucket) == {}
    for kind in ("analytics", "metrics", "inventory", "intelligent-tiering"):
        assert not cli(f"list-bucket-{kind}-configurations", Bucket=bucket).get("IsTruncated")
    cli.refused(
        "put-bucket-accelerate-configuration", "NotImplemented", Bucket=bucket, AccelerateConfiguration={"Status": "Enabled"}
    )
    cli.refused("restore-object", "", Bucket=bucket, Key="k", RestoreRequest={"Days": 1})

