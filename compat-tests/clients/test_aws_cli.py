"""E01 and the newcomer's session with the aws command line: version 1 (current) and Debian's version 2."""

import hashlib
import json
import os
import subprocess

from conftest import Tool, client_environment, program
from names import AWKWARD_KEYS, fill, tree


def put_json(done: subprocess.CompletedProcess) -> dict:
    return json.loads(done.stdout or b"{}")


def test_everyday_session(aws, request, tmp_path):
    """mb, put, get, head, list, copy, mv, delete, rb."""
    bucket = f"cli-{abs(hash(request.node.nodeid)) % 10**8}"
    body = os.urandom(100_000)
    (tmp_path / "file.bin").write_bytes(body)
    md5 = hashlib.md5(body).hexdigest()

    aws("s3", "mb", f"s3://{bucket}")
    assert bucket.encode() in aws("s3", "ls").stdout
    put = put_json(aws("s3api", "put-object", "--bucket", bucket, "--key", "dir/file.bin", "--body", "file.bin"))
    assert put["ETag"] == f'"{md5}"'
    head = put_json(aws("s3api", "head-object", "--bucket", bucket, "--key", "dir/file.bin"))
    assert head["ContentLength"] == len(body) and head["ETag"] == f'"{md5}"'
    assert head["LastModified"]
    aws("s3api", "get-object", "--bucket", bucket, "--key", "dir/file.bin", "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == body
    aws("s3", "cp", "file.bin", f"s3://{bucket}/top.bin", "--metadata", "colour=blue", "--content-type", "image/x-test")
    head = put_json(aws("s3api", "head-object", "--bucket", bucket, "--key", "top.bin"))
    assert head["Metadata"] == {"colour": "blue"} and head["ContentType"] == "image/x-test"
    aws("s3", "cp", f"s3://{bucket}/top.bin", f"s3://{bucket}/copy.bin")
    aws("s3", "mv", f"s3://{bucket}/copy.bin", f"s3://{bucket}/moved.bin")
    listed = aws("s3", "ls", f"s3://{bucket}/", "--recursive").stdout.decode()
    assert [line.split()[-1] for line in listed.splitlines()] == ["dir/file.bin", "moved.bin", "top.bin"]
    # Not empty: refused, and nothing is lost.
    refused = aws("s3", "rb", f"s3://{bucket}", check=False)
    assert refused.returncode != 0 and b"BucketNotEmpty" in refused.stderr
    aws("s3", "rm", f"s3://{bucket}", "--recursive")
    assert aws("s3", "ls", f"s3://{bucket}/", "--recursive", check=False).stdout == b""
    aws("s3", "rb", f"s3://{bucket}")
    gone = aws("s3api", "head-bucket", "--bucket", bucket, check=False)
    assert gone.returncode != 0 and b"404" in gone.stderr


def test_sync_of_a_thousand_awkward_names(aws, bucket, tmp_path):
    """Up, nothing to do, a change, down again: the same bytes under the same names."""
    source = tmp_path / "source"
    source.mkdir()
    files = fill(source)
    # `sync` sends a file again that is younger than its object, and S3 tells an object's age in whole seconds.
    for path in source.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    aws("s3", "sync", "--only-show-errors", "source", f"s3://{bucket}/tree")
    again = aws("s3", "sync", "--no-progress", "source", f"s3://{bucket}/tree")
    assert b"upload:" not in again.stdout, "a second sync must find nothing to do"
    aws("s3", "sync", "--only-show-errors", f"s3://{bucket}/tree", "back")
    back = tree(tmp_path / "back")
    assert back.keys() == files.keys()
    assert back == files
    (source / "plain.txt").unlink()
    (source / "new+file.txt").write_bytes(b"new")
    aws("s3", "sync", "--only-show-errors", "--delete", "source", f"s3://{bucket}/tree")
    keys = json.loads(aws("s3api", "list-objects-v2", "--bucket", bucket, "--query", "Contents[].Key").stdout)
    assert set(keys) == {f"tree/{name}" for name in files if name != "plain.txt"} | {"tree/new+file.txt"}


def test_keys_that_no_file_can_have(aws, bucket, tmp_path):
    """`a`, `a/` and `a/b` together, `//`, leading `/`, 1024 bytes and the rest, one by one."""
    (tmp_path / "in").write_bytes(b"")
    bodies = {}
    for number, key in enumerate(AWKWARD_KEYS):
        body = f"body {number}".encode()
        (tmp_path / "in").write_bytes(body)
        if number % 4:
            continue
        bodies[key] = body
        aws("s3api", "put-object", "--bucket", bucket, "--key", key, "--body", "in")
    listed = json.loads(aws("s3api", "list-objects-v2", "--bucket", bucket, "--query", "Contents[].Key").stdout)
    assert listed == sorted(bodies, key=str.encode)
    for key, body in list(bodies.items())[:4]:
        aws("s3api", "get-object", "--bucket", bucket, "--key", key, "out")
        assert (tmp_path / "out").read_bytes() == body


def test_newcomers_session(aws, server, request, tmp_path):
    """A 1 GiB file goes up in parts and comes back the same; a presigned link opens with curl."""
    if "v2" in request.node.name or "memory" in request.node.name:
        size = 64 << 20
    else:
        size = 1 << 30
    bucket = f"newcomer-{abs(hash(request.node.nodeid)) % 10**8}"
    aws("s3", "mb", f"s3://{bucket}")
    digest = hashlib.sha256()
    with open(tmp_path / "big.bin", "wb") as big:
        for _ in range(size >> 20):
            block = os.urandom(1 << 20)
            digest.update(block)
            big.write(block)
    aws("s3", "cp", "--only-show-errors", "big.bin", f"s3://{bucket}/big.bin", timeout=600)
    (tmp_path / "big.bin").unlink()
    head = put_json(aws("s3api", "head-object", "--bucket", bucket, "--key", "big.bin"))
    assert head["ContentLength"] == size
    assert head["ETag"].strip('"').endswith(f"-{size >> 23}"), "parts of 8 MiB"
    url = aws("s3", "presign", f"s3://{bucket}/big.bin", "--expires-in", "300").stdout.decode().strip()
    curl = subprocess.Popen([program("curl"), "-sS", "--fail", url], stdout=subprocess.PIPE, env=aws.env)
    fetched = hashlib.sha256()
    while block := curl.stdout.read(1 << 20):
        fetched.update(block)
    assert curl.wait(60) == 0
    assert fetched.digest() == digest.digest()
    aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/big.bin", "back.bin", timeout=600)
    assert hashlib.file_digest(open(tmp_path / "back.bin", "rb"), "sha256").digest() == digest.digest()
    (tmp_path / "back.bin").unlink()
    # A copy of an object of many parts is an UploadPartCopy of each.
    aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/big.bin", f"s3://{bucket}/copy.bin", timeout=600)
    assert put_json(aws("s3api", "head-object", "--bucket", bucket, "--key", "copy.bin"))["ContentLength"] == size
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert server.metric("sluice_open_handles") == 0


def test_an_operation_that_is_not_there_is_told_so(aws, bucket):
    """NotImplemented as valid XML: the command line shows the code."""
    done = aws("s3api", "get-bucket-analytics-configuration", "--bucket", bucket, "--id", "x", check=False)
    assert done.returncode != 0
    assert b"NotImplemented" in done.stderr or b"NoSuchConfiguration" in done.stderr, done.stderr
