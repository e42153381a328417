"""E09 (small) and E10: parts out of order, one sent twice, Complete at once or not at all, Abort frees everything."""

import concurrent.futures
import hashlib
import os
import subprocess
import threading
import time

import botocore.exceptions
import pytest
from conftest import boto3_client, program

MIB = 1 << 20


def part_body(number: int, size: int = 8 * MIB, salt: int = 0) -> bytes:
    """A part's bytes, made anew each time so that gigabytes need no memory."""
    seed = hashlib.sha256(f"{number} {salt}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def held(folder) -> dict[str, int]:
    """The bytes that each file below a folder holds on the disk, of those that hold any and without the database's own."""
    sizes = {str(path.relative_to(folder)): path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and ".db" not in path.name}
    return {path: size for path, size in sizes.items() if size}


def send(s3, bucket, key, upload_id, number, body) -> dict:
    etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body)["ETag"]
    return {"PartNumber": number, "ETag": etag}


def multipart(server, s3, bucket, parts: int) -> None:
    """Parts of 8 MiB out of order over 4 connections, one of them twice; readers meanwhile see the old object or the new."""
    old = b"old" * 1000
    s3.put_object(Bucket=bucket, Key="m", Body=old)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="m", Metadata={"colour": "blue"}, ContentType="text/x-m")["UploadId"]
    order = [*range(parts, 0, -2), *range(parts - 1, 0, -2)]
    clients = [boto3_client(server) for _ in range(4)]
    send(s3, bucket, "m", upload_id, 2, part_body(2, salt=1))

    def one(index: int) -> dict:
        return send(clients[index % 4], bucket, "m", upload_id, order[index], part_body(order[index]))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = sorted(pool.map(one, range(len(order))), key=lambda part: part["PartNumber"])
    listed = [
        (part["PartNumber"], part["ETag"], part["Size"])
        for page in s3.get_paginator("list_parts").paginate(Bucket=bucket, Key="m", UploadId=upload_id, PaginationConfig={"PageSize": 7})
        for part in page.get("Parts", [])
    ]
    assert listed == [(part["PartNumber"], part["ETag"], 8 * MIB) for part in done]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload_id]

    md5s = b"".join(hashlib.md5(part_body(number)).digest() for number in range(1, parts + 1))
    etag = f'"{hashlib.md5(md5s).hexdigest()}-{parts}"'
    begun, finished = threading.Event(), threading.Event()

    def read() -> int:
        seen = 0
        reader = boto3_client(server)
        while not finished.is_set():
            got = reader.get_object(Bucket=bucket, Key="m", Range="bytes=0-2999")
            assert (got["ETag"], got["Body"].read()) in [
                (f'"{hashlib.md5(old).hexdigest()}"', old),
                (etag, part_body(1)[:3000]),
            ], "a mix of old and new"
            seen += 1
            begun.set()
        return seen

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert begun.wait(60)
        result = s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": done})
        finished.set()
        assert reading.result(60) > 0
    assert result["ETag"] == etag
    head = s3.head_object(Bucket=bucket, Key="m")
    assert head["ContentLength"] == parts * 8 * MIB and head["ETag"] == etag
    assert head["Metadata"] == {"colour": "blue"} and head["ContentType"] == "text/x-m"
    body = s3.get_object(Bucket=bucket, Key="m")["Body"]
    for number in range(1, parts + 1):
        assert body.read(8 * MIB) == part_body(number), f"part {number}"
    assert body.read() == b""
    seam = s3.get_object(Bucket=bucket, Key="m", Range=f"bytes={8 * MIB - 5}-{8 * MIB + 4}")["Body"].read()
    assert seam == part_body(1)[-5:] + part_body(2)[:5]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="m")


def test_parts_out_of_order(server, s3, bucket):
    multipart(server, s3, bucket, 12)


@pytest.mark.large
@pytest.mark.timeout(1800)
def test_five_gibibytes(local):
    """E10 at full size on one instance."""
    s3 = boto3_client(local)
    s3.create_bucket(Bucket="five-gibibytes")
    before = local.memory()
    multipart(local, s3, "five-gibibytes", 640)
    assert local.memory("VmHWM") - before < 128 * MIB


def test_abort_frees_every_byte(fresh):
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="abort")
    s3.put_object(Bucket="abort", Key="other", Body=b"x")
    before = held(server.data_dir)
    uploads = [s3.create_multipart_upload(Bucket="abort", Key="m")["UploadId"] for _ in range(2)]
    for upload_id in uploads:
        for number in (1, 2, 2):
            send(s3, "abort", "m", upload_id, number, part_body(number))
    # While the system writes a file out, blocks that it has just allocated are missing from st_blocks for a moment.
    deadline = time.monotonic() + 60
    while sum(size for path, size in held(server.data_dir).items() if "/uploads/" in path) < 32 * MIB:
        assert time.monotonic() < deadline, f"the parts are not there: {before} became {held(server.data_dir)}"
        time.sleep(0.01)
    for upload_id in uploads:
        s3.abort_multipart_upload(Bucket="abort", Key="m", UploadId=upload_id)
    assert held(server.data_dir) == before, "parts are left behind"
    with pytest.raises(botocore.exceptions.ClientError) as gone:
        s3.list_parts(Bucket="abort", Key="m", UploadId=uploads[0])
    assert gone.value.response["Error"]["Code"] == "NoSuchUpload"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="abort")["Contents"]] == ["other"]


def refused(call, **arguments) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"]


def test_what_complete_refuses(s3, bucket):
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    small = send(s3, bucket, "m", upload_id, 1, b"small")
    last = send(s3, bucket, "m", upload_id, 2, b"last")
    where = {"Bucket": bucket, "Key": "m", "UploadId": upload_id}

    def complete(*parts) -> str:
        return refused(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": list(parts)})

    assert complete(small, last) == "EntityTooSmall"
    assert complete(last, small) == "InvalidPartOrder"
    assert complete(small, small) == "InvalidPartOrder"
    assert complete({"PartNumber": 3, "ETag": last["ETag"]}) == "InvalidPart"
    assert complete({"PartNumber": 1, "ETag": last["ETag"]}) == "InvalidPart"
    assert refused(s3.complete_multipart_upload, **{**where, "UploadId": "no-such-upload"}, MultipartUpload={"Parts": [small]}) == "NoSuchUpload"
    assert refused(s3.complete_multipart_upload, **{**where, "Key": "other"}, MultipartUpload={"Parts": [small]}) == "NoSuchUpload"
    for number in (0, 10001):
        assert refused(s3.upload_part, **where, PartNumber=number, Body=b"x") == "InvalidArgument"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    # Nothing of it cost the upload its parts; a Complete may leave parts out and may be repeated.
    first = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [last]})
    again = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [last]})
    assert first["ETag"] == again["ETag"]
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"last"


def test_upload_part_copy(s3, bucket):
    """Ranges, conditions, and an object that grows by copying itself (as Docker's registry appends)."""
    body = os.urandom(6 * MIB)
    etag = s3.put_object(Bucket=bucket, Key="from +ü", Body=body)["ETag"]
    source = {"Bucket": bucket, "Key": "from +ü"}
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    where = {"Bucket": bucket, "Key": "to", "UploadId": upload_id, "CopySource": source}
    first = s3.upload_part_copy(**where, PartNumber=1, CopySourceIfMatch=etag)["CopyPartResult"]["ETag"]
    second = s3.upload_part_copy(**where, PartNumber=2, CopySourceRange="bytes=1000-1999")["CopyPartResult"]["ETag"]
    assert second.strip('"') == hashlib.md5(body[1000:2000]).hexdigest()
    assert refused(s3.upload_part_copy, **where, PartNumber=3, CopySourceIfMatch='"x"') == "PreconditionFailed"
    assert refused(s3.upload_part_copy, **where, PartNumber=3, CopySourceRange=f"bytes=0-{6 * MIB}") in ("InvalidArgument", "InvalidRange")
    assert refused(s3.upload_part_copy, **where, PartNumber=3, CopySourceRange="bytes=5-") == "InvalidArgument"
    parts = {"Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="to", UploadId=upload_id, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body + body[1000:2000]
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    itself = s3.upload_part_copy(
        Bucket=bucket, Key="to", UploadId=upload_id, PartNumber=1, CopySource={"Bucket": bucket, "Key": "to"}
    )["CopyPartResult"]["ETag"]
    more = send(s3, bucket, "to", upload_id, 2, b"more")
    parts = {"Parts": [{"PartNumber": 1, "ETag": itself}, more]}
    s3.complete_multipart_upload(Bucket=bucket, Key="to", UploadId=upload_id, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == body + body[1000:2000] + b"more"


def test_parts_of_all_sizes(s3, bucket):
    """Barman and others send parts of unequal sizes; the last may be empty."""
    bodies = [part_body(1, 5 * MIB), part_body(2, 7 * MIB + 1), part_body(3, 5 * MIB + 12345), b""]
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    parts = [send(s3, bucket, "m", upload_id, number, body) for number, body in zip((1, 5, 9999, 10000), bodies)]
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"".join(bodies)


def test_list_uploads_in_pages(s3, bucket):
    """By key and upload id, with prefix and delimiter."""
    made = [(key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in ("b", "a", "a", "d/1", "d/2", "c +ü")]
    found = []
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2}):
        found += [(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", [])]
    assert sorted(found) == sorted(made)
    assert [key for key, _ in found] == ["a", "a", "b", "c +ü", "d/1", "d/2"]
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in rolled["CommonPrefixes"]] == ["d/"]
    assert [entry["Key"] for entry in s3.list_multipart_uploads(Bucket=bucket, Prefix="d/")["Uploads"]] == ["d/1", "d/2"]
    # A bucket with uploads but no object may go, and takes them along.
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.large
@pytest.mark.timeout(3600)
def test_sixteen_gibibytes_and_a_hundred_slow_readers(fresh, tmp_path):
    """E09 at full size: 16 PUTs of 1 GiB at once, then 100 GETs of 256 MiB at 8 MiB a second each."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="large")
    digest = hashlib.md5()
    with open(tmp_path / "gibibyte", "wb") as file:
        for _ in range(1024):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
    s3.put_object(Bucket="large", Key="quarter", Body=open(tmp_path / "gibibyte", "rb").read(256 * MIB))
    quarter = s3.head_object(Bucket="large", Key="quarter")["ETag"].strip('"')
    s3.get_object(Bucket="large", Key="quarter")["Body"].read()
    before = server.memory()

    def curl(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen([program("curl"), "-sS", "--fail", *arguments], stdout=subprocess.PIPE)

    def link(operation: str, key: str) -> str:
        return s3.generate_presigned_url(operation, Params={"Bucket": "large", "Key": key}, ExpiresIn=3600)

    puts = [curl("-T", str(tmp_path / "gibibyte"), link("put_object", f"k{number}")) for number in range(16)]
    assert [put.wait() for put in puts] == [0] * 16
    for number in range(16):
        head = s3.head_object(Bucket="large", Key=f"k{number}")
        assert (head["ContentLength"], head["ETag"]) == (1024 * MIB, f'"{digest.hexdigest()}"')
        s3.delete_object(Bucket="large", Key=f"k{number}")

    gets = [curl("--limit-rate", "8M", link("get_object", "quarter")) for _ in range(100)]
    sums = [subprocess.Popen(["md5sum"], stdin=get.stdout, stdout=subprocess.PIPE) for get in gets]
    for get, md5sum in zip(gets, sums):
        get.stdout.close()
        assert md5sum.communicate()[0].split()[0].decode() == quarter
        assert get.wait() == 0
    growth = server.memory("VmHWM") - before
    print(f"grew by {growth / MIB:.1f} MiB")
    assert growth <= 128 * MIB, f"grew by {growth / MIB:.0f} MiB"
    assert server.metric("sluice_open_handles") == 0


def test_many_large_puts_and_slow_readers(fresh):
    """E09, an eighth of its size: memory does not follow the bodies."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="large")
    body = os.urandom(64 * MIB)
    s3.put_object(Bucket="large", Key="warm", Body=body)
    digest = hashlib.md5(body).hexdigest()
    before = server.memory()
    clients = [boto3_client(server) for _ in range(16)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        puts = list(pool.map(lambda n: clients[n].put_object(Bucket="large", Key=f"k{n}", Body=body)["ETag"], range(16)))
    assert puts == [f'"{digest}"'] * 16

    def slow(number: int) -> str:
        got, hashed = clients[number].get_object(Bucket="large", Key=f"k{number}")["Body"], hashlib.md5()
        while block := got.read(64 * 1024):
            hashed.update(block)
        return hashed.hexdigest()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(slow, range(16))) == [digest] * 16
    growth = server.memory("VmHWM") - before
    assert growth <= 128 * MIB, f"grew by {growth / MIB:.0f} MiB"
