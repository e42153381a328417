"""The five checksum algorithms: in headers, in trailers, of parts and of the whole, kept and told."""

import base64
import hashlib
import os

import pytest
import sigv4

BODY = os.urandom(70_000)
ALGORITHMS = list(sigv4.CHECKSUMS)
TRAILER_MODES = [sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_a_header(wire, bucket, algorithm):
    name, value = f"x-amz-checksum-{algorithm.lower()}", sigv4.checksum(algorithm, BODY)
    put = wire.send("PUT", f"/{bucket}/k", BODY, headers={name: value})
    assert put.status == 200, put.body
    assert put.header(name) == value and put.header("x-amz-checksum-type") == "FULL_OBJECT"
    for method in ("GET", "HEAD"):
        answer = wire.send(method, f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
        assert answer.header(name) == value and answer.header("x-amz-checksum-type") == "FULL_OBJECT"
        assert wire.send(method, f"/{bucket}/k").header(name) is None
    # A range is not what the checksum is of.
    ranged = wire.send("GET", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED", "range": "bytes=0-9"})
    assert ranged.status == 206 and ranged.header(name) is None


@pytest.mark.parametrize("mode", TRAILER_MODES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_a_trailer(wire, bucket, algorithm, mode):
    chunks = [BODY[:65536], BODY[65536:]]
    put = wire.chunked(f"/{bucket}/k", chunks, mode, algorithm, headers={"content-encoding": "gzip, aws-chunked"})
    assert put.status == 200, put.body
    name = f"x-amz-checksum-{algorithm.lower()}"
    assert put.header(name) == sigv4.checksum(algorithm, BODY)
    got = wire.send("GET", f"/{bucket}/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.body == BODY and got.header(name) == sigv4.checksum(algorithm, BODY)
    assert got.header("content-encoding") == "gzip", "aws-chunked is framing, gzip is the object's"
    assert got.header("etag") == f'"{hashlib.md5(BODY).hexdigest()}"'


def test_signed_chunks_without_trailer(wire, bucket):
    put = wire.chunked(f"/{bucket}/k", [BODY[:8192], BODY[8192:]], sigv4.STREAMING)
    assert put.status == 200, put.body
    got = wire.send("GET", f"/{bucket}/k")
    assert got.body == BODY and got.header("content-encoding") is None


@pytest.mark.parametrize("mode", [sigv4.STREAMING, sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER])
def test_empty_bodies(wire, bucket, mode):
    algorithm = None if mode == sigv4.STREAMING else "CRC32"
    put = wire.chunked(f"/{bucket}/k", [], mode, algorithm)
    assert put.status == 200, put.body
    got = wire.send("GET", f"/{bucket}/k")
    assert got.status == 200 and got.body == b"" and got.header("etag") == '"d41d8cd98f00b204e9800998ecf8427e"'


def test_a_copy_keeps_or_computes(s3, wire, bucket):
    s3.put_object(Bucket=bucket, Key="from", Body=BODY, ChecksumAlgorithm="SHA256")
    s3.copy_object(Bucket=bucket, Key="kept", CopySource={"Bucket": bucket, "Key": "from"})
    assert s3.head_object(Bucket=bucket, Key="kept", ChecksumMode="ENABLED")["ChecksumSHA256"] == sigv4.checksum("SHA256", BODY)
    s3.copy_object(Bucket=bucket, Key="other", CopySource={"Bucket": bucket, "Key": "from"}, ChecksumAlgorithm="CRC64NVME")
    head = s3.head_object(Bucket=bucket, Key="other", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == sigv4.checksum("CRC64NVME", BODY)


def test_get_object_attributes(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="CRC32C")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert got["ObjectSize"] == len(BODY) and got["ETag"] == hashlib.md5(BODY).hexdigest()
    assert got["Checksum"]["ChecksumCRC32C"] == sigv4.checksum("CRC32C", BODY)
    assert got["StorageClass"] == "STANDARD"


PARTS = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(1000)]


def upload(s3, bucket, algorithm, kind=None):
    """Uploads PARTS with a checksum each; what Complete needs."""
    extra = {"ChecksumType": kind} if kind else {}
    created = s3.create_multipart_upload(Bucket=bucket, Key="m", ChecksumAlgorithm=algorithm, **extra)
    parts = []
    for number, body in enumerate(PARTS, 1):
        where = {"Bucket": bucket, "Key": "m", "UploadId": created["UploadId"], "PartNumber": number}
        part = s3.upload_part(**where, Body=body, ChecksumAlgorithm=algorithm)
        field = f"Checksum{algorithm}"
        assert part[field] == sigv4.checksum(algorithm, body)
        parts.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    return created["UploadId"], parts


def composite(algorithm: str) -> str:
    digests = b"".join(sigv4.CHECKSUMS[algorithm](body) for body in PARTS)
    return f"{sigv4.checksum(algorithm, digests)}-{len(PARTS)}"


@pytest.mark.parametrize("algorithm,kind", [("SHA256", "COMPOSITE"), ("SHA1", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32C", "COMPOSITE")])
def test_composite(s3, bucket, algorithm, kind):
    upload_id, parts = upload(s3, bucket, algorithm, kind)
    field = f"Checksum{algorithm}"
    done = s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert done[field] == composite(algorithm) and done["ChecksumType"] == "COMPOSITE"
    head = s3.head_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")
    assert head[field] == composite(algorithm) and head["ChecksumType"] == "COMPOSITE"
    md5s = b"".join(hashlib.md5(body).digest() for body in PARTS)
    assert head["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object(s3, bucket, algorithm):
    upload_id, parts = upload(s3, bucket, algorithm, "FULL_OBJECT")
    field = f"Checksum{algorithm}"
    done = s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert done[field] == sigv4.checksum(algorithm, b"".join(PARTS)) and done["ChecksumType"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")
    assert got[field] == done[field] and got["ChecksumType"] == "FULL_OBJECT"
    assert got["Body"].read() == b"".join(PARTS)


def test_a_wrong_checksum_stops_the_complete(s3, wire, bucket):
    import botocore.exceptions

    upload_id, parts = upload(s3, bucket, "CRC32", "FULL_OBJECT")
    where = {"Bucket": bucket, "Key": "m", "UploadId": upload_id}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, ChecksumCRC32="AAAAAA==", ChecksumType="FULL_OBJECT")
    assert refused.value.response["Error"]["Code"] == "BadDigest"
    wrong = [dict(part) for part in parts]
    wrong[1]["ChecksumCRC32"] = base64.b64encode(b"\0\0\0\0").decode()
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": wrong})
    assert refused.value.response["Error"]["Code"] == "InvalidPart"
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, MpuObjectSize=5)
    assert refused.value.response["Error"]["Code"] == "InvalidRequest"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
