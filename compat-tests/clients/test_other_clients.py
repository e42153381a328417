"""E01 with rclone, s3cmd, s5cmd, minio-py and curl."""

import hashlib
import io
import json
import os

import gateway as gateway_module
import minio
import minio.commonconfig
import minio.deleteobjects
import pytest
from conftest import ACCESS_KEY, REGION, SECRET_KEY, Tool, boto3_client, client_environment, program
from names import AWKWARD_KEYS, fill, tree


@pytest.fixture
def files(tmp_path):
    """A folder of 1000 awkward names."""
    folder = tmp_path / "source"
    folder.mkdir()
    return fill(folder)


# rclone


def test_rclone_sync_and_check(rclone, bucket, files, tmp_path):
    """0 differences after sync, nothing to do the second time, and the same bytes on the way back."""
    rclone("sync", "source", f"s:{bucket}/tree")
    check = rclone("check", "source", f"s:{bucket}/tree")
    assert b"0 differences found" in check.stderr, check.stderr
    rclone("check", "--download", "source", f"s:{bucket}/tree")
    again = rclone("sync", "-v", "source", f"s:{bucket}/tree")
    assert b"Copied" not in again.stderr, again.stderr[-2000:]
    rclone("sync", f"s:{bucket}/tree", "back")
    assert tree(tmp_path / "back") == files


def test_rclone_everyday(rclone, request, tmp_path):
    """mkdir, copyto, lsjson, server-side copy and move, cat, a file in parts, purge."""
    bucket = f"rclone-{abs(hash(request.node.nodeid)) % 10**8}"
    rclone("mkdir", f"s:{bucket}")
    body = os.urandom(20 << 20)
    (tmp_path / "big").write_bytes(body)
    rclone("copyto", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "big", f"s:{bucket}/dir/big +&.bin")
    listed = json.loads(rclone("lsjson", "-R", "--hash", f"s:{bucket}").stdout)
    entry = next(entry for entry in listed if not entry["IsDir"])
    assert entry["Size"] == len(body)
    assert entry["Hashes"]["md5"] == hashlib.md5(body).hexdigest(), "rclone keeps the MD5 in user metadata"
    rclone("copyto", f"s:{bucket}/dir/big +&.bin", f"s:{bucket}/copy")
    rclone("moveto", f"s:{bucket}/copy", f"s:{bucket}/moved")
    assert rclone("cat", "--offset", "1000", "--count", "50", f"s:{bucket}/moved").stdout == body[1000:1050]
    rclone("touch", f"s:{bucket}/moved")
    rclone("purge", f"s:{bucket}")
    assert bucket.encode() not in rclone("lsd", "s:").stdout


# s3cmd


@pytest.fixture
def s3cmd(server, tmp_path, home):
    """s3cmd, path style."""
    config = tmp_path / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\nhost_base = 127.0.0.1:{server.port}\n"
        f"host_bucket = 127.0.0.1:{server.port}\nuse_https = False\nbucket_location = {REGION}\nmax_retries = 1\n"
    )
    tool = Tool(program("s3cmd"), env={**client_environment(home, server), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}, cwd=tmp_path)
    tool.command += ["--config", str(config), "--no-progress"]
    return tool


def test_s3cmd_everyday(s3cmd, request, tmp_path):
    """mb, put in parts, info, get, cp, mv, ls, del, rb."""
    bucket = f"s3cmd-{abs(hash(request.node.nodeid)) % 10**8}"
    s3cmd("mb", f"s3://{bucket}")
    body = os.urandom(12 << 20)
    (tmp_path / "big").write_bytes(body)
    s3cmd("put", "--multipart-chunk-size-mb=5", "big", f"s3://{bucket}/dir/big +ü.bin")
    info = s3cmd("info", f"s3://{bucket}/dir/big +ü.bin").stdout.decode()
    assert str(len(body)) in info and hashlib.md5(body).hexdigest() in info, info
    s3cmd("get", f"s3://{bucket}/dir/big +ü.bin", "back")
    assert (tmp_path / "back").read_bytes() == body
    s3cmd("cp", f"s3://{bucket}/dir/big +ü.bin", f"s3://{bucket}/copy")
    s3cmd("mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    assert [line.split()[-1] for line in s3cmd("ls", f"s3://{bucket}").stdout.decode().splitlines()] == [
        f"s3://{bucket}/dir/",
        f"s3://{bucket}/moved",
    ]
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}")
    s3cmd("rb", f"s3://{bucket}")


def test_s3cmd_sync(s3cmd, bucket, files, tmp_path):
    """The thousand names go up and come back."""
    s3cmd("sync", "source/", f"s3://{bucket}/tree/")
    again = s3cmd("sync", "source/", f"s3://{bucket}/tree/")
    assert b"upload:" not in again.stdout, again.stdout[-1000:]
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"s3://{bucket}/tree/", "back/")
    assert tree(tmp_path / "back") == files


# s5cmd


@pytest.fixture
def s5cmd(server, tmp_path, home):
    """s5cmd, as `compat-tests/run` builds it where there is a Go toolchain."""
    built = gateway_module.target_dir() / "s5cmd"
    if not built.exists():
        pytest.skip("s5cmd was not built: it needs a Go toolchain")
    tool = Tool(str(built), env=client_environment(home, server), cwd=tmp_path)
    tool.command += ["--endpoint-url", server.endpoint]
    return tool


def test_s5cmd_sync(s5cmd, s3, bucket, tmp_path):
    """The thousand names, less those in which s5cmd itself sees patterns."""
    folder = tmp_path / "source"
    folder.mkdir()
    files = fill(folder)
    for name in [name for name in files if set(name) & set("*?[\\")]:
        (folder / name).unlink()
        del files[name]
    s5cmd("sync", "source/", f"s3://{bucket}/tree/")
    s5cmd("sync", f"s3://{bucket}/tree/*", "back/")
    assert tree(tmp_path / "back") == files
    s5cmd("cp", f"s3://{bucket}/tree/plain.txt", f"s3://{bucket}/copy")
    assert s5cmd("cat", f"s3://{bucket}/copy").stdout == files["plain.txt"]
    s5cmd("rm", f"s3://{bucket}/tree/*")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["copy"]


# minio-py


def test_minio_py(server, request):
    """Everyday calls, a stream of unknown length, composition, and a batch delete that sends Content-MD5."""
    client = minio.Minio(f"127.0.0.1:{server.port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False, region=REGION)
    bucket = f"minio-py-{abs(hash(request.node.nodeid)) % 10**8}"
    assert not client.bucket_exists(bucket)
    client.make_bucket(bucket)
    assert client.bucket_exists(bucket)
    body = os.urandom(100_000)
    put = client.put_object(bucket, "dir/ü +.bin", io.BytesIO(body), len(body), metadata={"colour": "blue"})
    assert put.etag.strip('"') == hashlib.md5(body).hexdigest()
    stat = client.stat_object(bucket, "dir/ü +.bin")
    assert stat.size == len(body) and stat.metadata["x-amz-meta-colour"] == "blue"
    with client.get_object(bucket, "dir/ü +.bin", offset=10, length=20) as answer:
        assert answer.read() == body[10:30]
    large = os.urandom(11 << 20)
    client.put_object(bucket, "stream", io.BytesIO(large), -1, part_size=5 << 20)
    with client.get_object(bucket, "stream") as answer:
        assert answer.read() == large
    source = minio.commonconfig.ComposeSource(bucket, "stream")
    client.compose_object(bucket, "composed", [source, minio.commonconfig.ComposeSource(bucket, "dir/ü +.bin")])
    with client.get_object(bucket, "composed") as answer:
        assert answer.read() == large + body
    client.copy_object(bucket, "copy", minio.commonconfig.CopySource(bucket, "dir/ü +.bin"))
    assert sorted(entry.object_name for entry in client.list_objects(bucket)) == ["composed", "copy", "dir/", "stream"]
    assert len(list(client.list_objects(bucket, recursive=True, start_after="copy"))) == 2
    with pytest.raises(minio.error.S3Error) as missing:
        client.stat_object(bucket, "nobody")
    assert missing.value.code == "NoSuchKey"
    everything = [minio.deleteobjects.DeleteObject(entry.object_name) for entry in client.list_objects(bucket, recursive=True)]
    assert list(client.remove_objects(bucket, everything)) == []
    client.remove_bucket(bucket)


# curl


def test_curl_signs_by_itself(server, bucket, tmp_path, home):
    """curl --aws-sigv4 puts, gets and lists."""
    curl = Tool(program("curl"), env=client_environment(home, server), cwd=tmp_path)
    curl.command += ["-sS", "--fail-with-body", "--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", f"{ACCESS_KEY}:{SECRET_KEY}"]
    curl.command += ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    body = os.urandom(2 << 20)
    (tmp_path / "in").write_bytes(body)
    url = f"{server.endpoint}/{bucket}/dir/file.bin"
    # 2 MiB makes curl wait for `100 Continue`.
    curl("-T", "in", url)
    assert curl(url).stdout == body
    assert curl("-r", "5-9", url).stdout == body[5:10]
    assert b"<Key>dir/file.bin</Key>" in curl(f"{server.endpoint}/{bucket}?list-type=2").stdout
    curl("-X", "DELETE", url)
    assert b"<Code>NoSuchKey</Code>" in curl(url, check=False).stdout


# Keys that need no file


def test_awkward_keys_side_by_side(s3, bucket):
    """Each awkward key keeps its own bytes, in UTF-8 order, through PUT, GET, HEAD, LIST, COPY and DELETE."""
    for number, key in enumerate(AWKWARD_KEYS):
        put = s3.put_object(Bucket=bucket, Key=key, Body=f"body {number}".encode())
        assert put["ETag"].strip('"') == hashlib.md5(f"body {number}".encode()).hexdigest()
    for listing in ("list_objects_v2", "list_objects"):
        keys = [e["Key"] for page in s3.get_paginator(listing).paginate(Bucket=bucket, PaginationConfig={"PageSize": 3})
                for e in page["Contents"]]
        assert keys == sorted(AWKWARD_KEYS, key=str.encode), listing
    for number, key in enumerate(AWKWARD_KEYS):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == f"body {number}".encode(), key
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(f"body {number}")
        s3.copy_object(Bucket=bucket, Key="the copy", CopySource={"Bucket": bucket, "Key": key})
        assert s3.get_object(Bucket=bucket, Key="the copy")["Body"].read() == f"body {number}".encode(), key
    s3.delete_object(Bucket=bucket, Key="the copy")
    for key in AWKWARD_KEYS[::2]:
        s3.delete_object(Bucket=bucket, Key=key)
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in AWKWARD_KEYS[1::2]]})
    assert [entry["Key"] for entry in deleted["Deleted"]] == AWKWARD_KEYS[1::2] and "Errors" not in deleted
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
