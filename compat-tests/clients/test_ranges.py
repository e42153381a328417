"""E12: the Range matrix. RFC 9110 section 14 and what AWS makes of it."""

import os
import pathlib

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from wire import Wire

BODY = bytes(index % 251 for index in range(1000))

# Range, status, first byte, length, Content-Range
MATRIX = [
    ("bytes=0-499", 206, 0, 500, "bytes 0-499/1000"),
    ("bytes=500-", 206, 500, 500, "bytes 500-999/1000"),
    ("bytes=-200", 206, 800, 200, "bytes 800-999/1000"),
    ("bytes=0-999", 206, 0, 1000, "bytes 0-999/1000"),
    ("bytes=0-0", 206, 0, 1, "bytes 0-0/1000"),
    ("bytes=999-999", 206, 999, 1, "bytes 999-999/1000"),
    ("bytes=1000-", 416, 0, 0, "bytes */1000"),
    ("bytes=0-1000", 206, 0, 1000, "bytes 0-999/1000"),
    ("bytes=500-100", 200, 0, 1000, None),
    ("chars=0-1", 200, 0, 1000, None),
    ("bytes=-0", 416, 0, 0, "bytes */1000"),
    ("bytes=-2000", 206, 0, 1000, "bytes 0-999/1000"),
    ("bytes=5000-6000", 416, 0, 0, "bytes */1000"),
    # Positions that no 64 bits hold.
    ("bytes=99999999999999999999-", 416, 0, 0, "bytes */1000"),
    ("bytes=990-99999999999999999999", 206, 990, 10, "bytes 990-999/1000"),
    ("bytes=-99999999999999999999", 206, 0, 1000, "bytes 0-999/1000"),
    # More than one range: AWS sends the whole object.
    ("bytes=0-0,2-2", 200, 0, 1000, None),
    ("bytes=0-499,", 200, 0, 1000, None),
    ("bytes=", 200, 0, 1000, None),
    ("bytes=a-b", 200, 0, 1000, None),
    ("nonsense", 200, 0, 1000, None),
]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("wanted,status,first,length,content_range", MATRIX, ids=[row[0] for row in MATRIX])
def test_range_of_a_thousand_bytes(s3, wire, bucket, wanted, status, first, length, content_range, signed):
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    for method in ("GET", "HEAD"):
        if signed:
            answer = wire.send(method, f"/{bucket}/k", headers={"range": wanted})
        else:
            answer = wire.send(method, f"/{bucket}/k", late={"range": wanted})
        assert answer.status == status, (method, answer.status, answer.body[:300])
        assert answer.header("content-range") == content_range
        if status == 416:
            if method == "GET":
                answer.is_error(416, "InvalidRange", f"/{bucket}/k")
            else:
                assert answer.body == b""
            continue
        assert answer.header("accept-ranges") == "bytes"
        assert answer.header("content-length") == str(length)
        assert answer.body == (BODY[first : first + length] if method == "GET" else b"")


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=-5", "bytes=0-0"])
def test_range_of_nothing(s3, wire, bucket, wanted):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    answer = wire.send("GET", f"/{bucket}/k", headers={"range": wanted})
    answer.is_error(416, "InvalidRange", f"/{bucket}/k")
    assert answer.header("content-range") == "bytes */0"
    head = wire.send("HEAD", f"/{bucket}/k", headers={"range": wanted})
    assert (head.status, head.body, head.header("content-range")) == (416, b"", "bytes */0")


def test_if_range(s3, wire, bucket):
    """The range applies only while the object is still the same."""
    etag = s3.put_object(Bucket=bucket, Key="k", Body=BODY)["ETag"]
    modified = wire.send("HEAD", f"/{bucket}/k").header("last-modified")
    for validator, status in [
        (etag, 206),
        ('"stale"', 200),
        (f"W/{etag}", 200),
        (modified, 206),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
    ]:
        answer = wire.send("GET", f"/{bucket}/k", headers={"range": "bytes=1-2", "if-range": validator})
        assert answer.status == status, validator
        assert answer.body == (BODY[1:3] if status == 206 else BODY)


def test_large_bodies_have_their_length(s3, wire, bucket):
    """E11, as seen from outside: 1 MiB and one byte more, whole and in ranges over the seam."""
    for size in (1 << 20, (1 << 20) + 1):
        body = bytes(size % 256 for size in range(256)) * (size // 256) + b"x" * (size % 256)
        s3.put_object(Bucket=bucket, Key="k", Body=body)
        answer = wire.send("GET", f"/{bucket}/k")
        assert answer.header("content-length") == str(size) and answer.body == body
        assert answer.header("transfer-encoding") is None
        answer = wire.send("GET", f"/{bucket}/k", headers={"range": f"bytes=262140-{size - 1}"})
        assert answer.status == 206 and answer.body == body[262140:]


def test_large_bodies_are_read_piece_by_piece(local):
    """E11, as the kernel sees it: 1 MiB and one byte is five reads of 256 KiB at most, or three of half a MiB where the kernel sends
    the file from its cache. Either way no byte is read twice."""
    s3, wire = boto3_client(local), Wire(local.port, ACCESS_KEY, SECRET_KEY)
    s3.create_bucket(Bucket="pieces")

    def reads() -> tuple[int, int]:
        """Calls that read files so far, and bytes; those of sockets are not among them."""
        lines = pathlib.Path(f"/proc/{local.pid}/io").read_text().splitlines()
        counts = dict(line.split(": ") for line in lines)
        return int(counts["syscr"]), int(counts["rchar"])

    def cost(method: str, key: str, evict: bool) -> tuple[int, int]:
        """The least of several, so that what goes on beside it does not count."""
        seen = []
        for _ in range(7):
            if evict:
                with open(local.data_dir / "buckets" / "pieces" / key, "rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            calls, octets = reads()
            assert wire.send(method, f"/pieces/{key}").status == 200
            later = reads()
            seen.append((later[0] - calls, later[1] - octets))
        return min(seen)

    for size in (1 << 20, (1 << 20) + 1):
        for evict, pieces in ((False, -(-size // (512 << 10))), (True, -(-size // (256 << 10)))):
            s3.put_object(Bucket="pieces", Key=str(size), Body=b"x" * size)
            head, get = cost("HEAD", str(size), evict), cost("GET", str(size), evict)
            calls, octets = get[0] - head[0], get[1] - head[1]
            # Some bytes more: looking whether the cache holds a page reads one of it.
            assert size <= octets <= size + 64, (size, evict, head, get)
            if size > 1 << 20:
                # A file system in memory evicts nothing.
                assert calls >= pieces or (evict and in_memory(local.data_dir)), (size, evict, head, get)


def in_memory(folder: pathlib.Path) -> bool:
    """Whether a folder lies on a tmpfs."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    holding = max((mount for mount in mounts if folder.resolve().is_relative_to(mount[1])), key=lambda mount: len(mount[1]))
    return holding[2] == "tmpfs"


def test_range_and_part_number_of_parts(s3, wire, bucket):
    """partNumber reads one part, says how many there are, and excludes Range."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    bodies = [b"1" * (5 << 20), b"2" * 1000]
    parts = [
        {"PartNumber": n + 1, "ETag": s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=n + 1, Body=b)["ETag"]}
        for n, b in enumerate(bodies)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    for method in ("GET", "HEAD"):
        answer = wire.send(method, f"/{bucket}/k", query={"partNumber": "2"})
        assert answer.status == 206
        assert answer.header("x-amz-mp-parts-count") == "2"
        assert answer.header("content-range") == f"bytes {5 << 20}-{(5 << 20) + 999}/{(5 << 20) + 1000}"
        assert answer.body == (bodies[1] if method == "GET" else b"")
    wire.send("GET", f"/{bucket}/k", query={"partNumber": "3"}).is_error(400, "InvalidPart", f"/{bucket}/k")
    wire.send("GET", f"/{bucket}/k", query={"partNumber": "1"}, headers={"range": "bytes=0-1"}).is_error(400, "InvalidRequest")
    s3.put_object(Bucket=bucket, Key="plain", Body=b"abc")
    answer = wire.send("GET", f"/{bucket}/plain", query={"partNumber": "1"})
    assert answer.status == 206 and answer.body == b"abc"
