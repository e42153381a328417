"""Clients through a mount of a second gateway: the provider `s3`."""

import concurrent.futures
import hashlib
import os
import sys
import time

import botocore.exceptions
import pytest
from conftest import ACCESS_KEY, REGION, SECRET_KEY, Tool, boto3_client, client_environment, mount_far, program
from gateway import Gateway
from names import fill, tree

MIB = 1 << 20


@pytest.fixture
def mounted(request, far, fresh, credentials):
    """A gateway and its bucket, at whose root the far bucket of the same name is mounted."""
    return mount_far(request, far, fresh, credentials)


def test_boto3(mounted, far):
    """What is written near is there far, with its metadata, and the other way round."""
    server, bucket = mounted
    near, there = boto3_client(server), boto3_client(far)
    body = os.urandom(300_000)
    near.put_object(Bucket=bucket, Key="dir/ü +.bin", Body=body, ContentType="image/x-test", Metadata={"colour": "blue"}, Tagging="a=b")
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    for client in near, there:
        got = client.get_object(Bucket=bucket, Key="dir/ü +.bin")
        assert (got["ETag"], got["ContentType"], got["Metadata"]["colour"]) == (etag, "image/x-test", "blue")
        assert got["Body"].read() == body
    assert near.get_object_tagging(Bucket=bucket, Key="dir/ü +.bin")["TagSet"] == [{"Key": "a", "Value": "b"}]
    near.put_object_tagging(Bucket=bucket, Key="dir/ü +.bin", Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert near.get_object_tagging(Bucket=bucket, Key="dir/ü +.bin")["TagSet"] == [{"Key": "c", "Value": "d"}]
    head = near.head_object(Bucket=bucket, Key="dir/ü +.bin", ChecksumMode="ENABLED")
    assert head["ETag"] == etag and head["Metadata"] == {"colour": "blue"} and head["ChecksumCRC32"]
    ranged = near.get_object(Bucket=bucket, Key="dir/ü +.bin", Range="bytes=100-199")
    assert ranged["ContentRange"] == "bytes 100-199/300000" and ranged["Body"].read() == body[100:200]

    there.put_object(Bucket=bucket, Key="theirs", Body=b"far", ContentType="text/far", Metadata={"k": "v"})
    got = near.get_object(Bucket=bucket, Key="theirs")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"far", "text/far", {"k": "v"})
    near.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "theirs"})
    listed = near.list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == ["copy", "dir/ü +.bin", "theirs"]
    page = near.list_objects_v2(Bucket=bucket, Delimiter="/", MaxKeys=1)
    assert page["IsTruncated"] and [entry["Key"] for entry in page["Contents"]] == ["copy"]

    with pytest.raises(botocore.exceptions.ClientError) as refused:
        near.put_object(Bucket=bucket, Key="copy", Body=b"x", IfNoneMatch="*")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    deleted = near.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("copy", "dir/ü +.bin", "theirs", "none")]})
    assert len(deleted["Deleted"]) == 4 and "Contents" not in near.list_objects_v2(Bucket=bucket)


def test_one_of_many_writers_wins(mounted, fresh, credentials, far):
    """If-None-Match: * through two gateways that mount the same remote."""
    server, bucket = mounted
    other = fresh()
    boto3_client(other).create_bucket(Bucket=bucket)
    other.command("mount", "rm", bucket, "", check=False)
    other.mount(bucket, "", "s3", endpoint=far.endpoint, bucket=bucket, credentials_file=str(credentials), profile="far")
    clients = [boto3_client((server, other)[n % 2]) for n in range(12)]

    def put(n: int) -> int:
        try:
            clients[n].put_object(Bucket=bucket, Key="race", Body=str(n).encode(), IfNoneMatch="*")
            return n
        except botocore.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error
            return -1

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        winners = [n for n in pool.map(put, range(12)) if n >= 0]
    assert len(winners) == 1
    assert clients[0].get_object(Bucket=bucket, Key="race")["Body"].read() == str(winners[0]).encode()


def copied_both_ways(server: Gateway, bucket: str, tmp_path, size: int) -> int:
    """`aws s3 cp` up and down; answers by how many bytes the gateway grew."""
    aws = Tool(sys.executable, "-m", "awscli", env=client_environment(tmp_path, server), cwd=tmp_path)
    boto3_client(server).put_object(Bucket=bucket, Key="warm", Body=os.urandom(9 * MIB))
    block = os.urandom(MIB)
    with open(tmp_path / "up", "wb") as file:
        for n in range(size // MIB):
            file.write(n.to_bytes(8, "big") + block[8:])
    before = server.memory()
    aws("s3", "cp", "--only-show-errors", "up", f"s3://{bucket}/big", "--content-type", "x/y", timeout=3000)
    aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/big", "down", timeout=3000)
    growth = server.memory("VmHWM") - before
    digests = []
    for name in "up", "down":
        with open(tmp_path / name, "rb") as file:
            digests.append(hashlib.file_digest(file, "md5").hexdigest())
        os.remove(tmp_path / name)
    assert digests[0] == digests[1]
    head = boto3_client(server).head_object(Bucket=bucket, Key="big")
    assert (head["ContentLength"], head["ContentType"]) == (size, "x/y")
    print(f"grew by {growth / MIB:.1f} MiB")
    return growth


def test_aws_cp_in_parts(mounted, far, tmp_path):
    """128 MiB both ways; the parts are parts at the remote, so that both ETags are the same, and nothing is left behind."""
    server, bucket = mounted
    assert copied_both_ways(server, bucket, tmp_path, 128 * MIB) < 64 * MIB
    near, there = boto3_client(server), boto3_client(far)
    assert near.head_object(Bucket=bucket, Key="big")["ETag"] == there.head_object(Bucket=bucket, Key="big")["ETag"]
    listed = {entry["Key"]: entry["ETag"] for entry in near.list_objects_v2(Bucket=bucket)["Contents"]}
    assert listed["big"] == near.head_object(Bucket=bucket, Key="big")["ETag"]
    hidden = [entry["Key"] for entry in there.list_objects_v2(Bucket=bucket, Prefix=".sluice-s3/")["Contents"]]
    assert all(key.startswith(".sluice-s3/r/") for key in hidden), hidden
    assert "Uploads" not in there.list_multipart_uploads(Bucket=bucket)


@pytest.mark.large
def test_aws_cp_of_a_gibibyte(mounted, tmp_path):
    """1 GiB both ways: the gateway's memory does not follow it."""
    server, bucket = mounted
    assert copied_both_ways(server, bucket, tmp_path, 1024 * MIB) < 64 * MIB


def test_rclone(mounted, tmp_path):
    """A thousand awkward names up, compared, and down again."""
    server, bucket = mounted
    (tmp_path / "source").mkdir()
    files = fill(tmp_path / "source")
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[s]\ntype = s3\nprovider = Other\naccess_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n"
        f"endpoint = {server.endpoint}\nregion = {REGION}\n"
    )
    rclone = Tool(program("rclone"), env=client_environment(tmp_path, server), cwd=tmp_path)
    rclone.command += ["--config", str(config), "--retries", "1", "--low-level-retries", "1"]
    rclone("sync", "source", f"s:{bucket}/tree")
    check = rclone("check", "source", f"s:{bucket}/tree")
    assert b"0 differences found" in check.stderr, check.stderr
    rclone("sync", f"s:{bucket}/tree", "back")
    assert tree(tmp_path / "back") == files


def test_a_remote_that_is_gone_fails_its_own_mount(fresh, credentials, tmp_path):
    """Its keys answer 503 with a reason in the log, all others work, and it comes back by itself."""
    far, server = fresh(), fresh()
    boto3_client(far).create_bucket(Bucket="far")
    near = boto3_client(server)
    near.create_bucket(Bucket="near")
    server.mount("near", "r/", "s3", endpoint=far.endpoint, bucket="far", credentials_file=str(credentials), profile="far", retries="1")
    near.put_object(Bucket="near", Key="r/k", Body=b"remote")
    far.stop()
    for key in "r/k", "r/none":
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            near.head_object(Bucket="near", Key=key)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    near.put_object(Bucket="near", Key="mine", Body=b"local")
    assert near.get_object(Bucket="near", Key="mine")["Body"].read() == b"local"
    far.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert near.get_object(Bucket="near", Key="r/k")["Body"].read() == b"remote"
            break
        except botocore.exceptions.ClientError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_circle_of_gateways_ends(fresh, credentials):
    """Two gateways that mount each other refuse what would go round."""
    one, two = fresh(), fresh()
    for server, other in (one, two), (two, one):
        boto3_client(server).create_bucket(Bucket="ring")
        server.command("mount", "rm", "ring", "", check=False)
    settings = {"bucket": "ring", "credentials_file": str(credentials), "profile": "far", "conditions": "on"}
    for server, other in (one, two), (two, one):
        server.mount("ring", "", "s3", endpoint=other.endpoint, **settings)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        boto3_client(one).get_object(Bucket="ring", Key="k")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert one.metric("sluice_open_handles") == 0
