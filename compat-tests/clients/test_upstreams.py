"""A mount of several gateways that hold the same bucket: the settings `upstreams` and `select` of the provider `s3`."""

import json
import time

import botocore.exceptions
import pytest
from conftest import boto3_client, bucket_name


@pytest.fixture
def replicated(request, fresh, credentials):
    """A gateway, the primary and the replica that it mounts, and the bucket of all three; nothing is replicated but by the test."""
    name = bucket_name(request)
    near, primary, replica = fresh(), fresh(), fresh()
    for server in near, primary, replica:
        boto3_client(server).create_bucket(Bucket=name)
    settings = {"bucket": name, "credentials_file": str(credentials), "profile": "far", "retries": "1", "min_idle": "1"}
    near.mount(name, "m/", "s3", endpoint=primary.endpoint, upstreams=replica.endpoint, select=request.param, **settings)
    return near, primary, replica, name


def upstreams(server, bucket: str) -> list[dict]:
    mounts = json.loads(server.command("provider", "describe", "--bucket", bucket, "--json").stdout)["mounts"]
    return next(mount for mount in mounts if mount["prefix"] == "m/")["upstreams"]


def reads(server, role: str, outcome: str = "answered") -> float:
    return server.metrics()[f'sluice_upstream_reads_total{{role="{role}",outcome="{outcome}"}}']


@pytest.mark.parametrize("replicated", ["balanced"], indirect=True)
def test_reads_go_on_when_one_is_gone(replicated):
    """Reads are spread over both, writes go to the primary, and a replica that goes and comes back is not noticed by clients."""
    near, primary, replica, bucket = replicated
    client = boto3_client(near)
    for server in primary, replica:
        for n in range(4):
            boto3_client(server).put_object(Bucket=bucket, Key=f"k{n}", Body=b"both")

    def read_all() -> None:
        for n in range(4):
            assert client.get_object(Bucket=bucket, Key=f"m/k{n}")["Body"].read() == b"both"

    for _ in range(3):
        read_all()
    assert reads(near, "primary") >= 4 and reads(near, "replica") >= 4
    told = upstreams(near, bucket)
    assert [(upstream["primary"], upstream["available"]) for upstream in told] == [(True, True), (False, True)]
    assert told[0]["place"].startswith(primary.endpoint) and all(upstream["latency_ms"] > 0 for upstream in told)

    client.put_object(Bucket=bucket, Key="m/new", Body=b"primary")
    assert boto3_client(primary).get_object(Bucket=bucket, Key="new")["Body"].read() == b"primary"
    # The replica never gets it: whoever asks sees it all the same, and in listings too.
    for _ in range(4):
        assert client.get_object(Bucket=bucket, Key="m/new")["Body"].read() == b"primary"
        listed = client.list_objects_v2(Bucket=bucket)["Contents"]
        assert [entry["Key"] for entry in listed] == ["m/k0", "m/k1", "m/k2", "m/k3", "m/new"]
    boto3_client(primary).put_object(Bucket=bucket, Key="late", Body=b"primary")
    for _ in range(4):
        assert client.head_object(Bucket=bucket, Key="m/late")["ContentLength"] == 7

    replica.stop()
    for _ in range(3):
        read_all()
    assert not upstreams(near, bucket)[1]["available"]
    assert near.metric("sluice_upstreams_out") == 1 and near.metric("sluice_upstream_failovers_total") >= 1
    replica.start()
    answered, deadline = reads(near, "replica"), time.monotonic() + 90
    while reads(near, "replica") == answered:
        assert time.monotonic() < deadline
        read_all()
        time.sleep(0.05)
    assert near.metric("sluice_upstreams_out") == 0


@pytest.mark.parametrize("replicated", ["affinity"], indirect=True)
def test_a_primary_that_is_gone_takes_only_writes_along(replicated):
    """Reads go on, writes and what no replica has answer 503."""
    near, primary, replica, bucket = replicated
    client = boto3_client(near)
    for server in primary, replica:
        for n in range(6):
            boto3_client(server).put_object(Bucket=bucket, Key=f"k{n}", Body=b"both")
    primary.stop()
    for n in range(6):
        assert client.get_object(Bucket=bucket, Key=f"m/k{n}")["Body"].read() == b"both"
    assert len(client.list_objects_v2(Bucket=bucket, Prefix="m/")["Contents"]) == 6
    for refused_call in (
        lambda: client.get_object(Bucket=bucket, Key="m/none"),
        lambda: client.put_object(Bucket=bucket, Key="m/k", Body=b"new"),
    ):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            refused_call()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
