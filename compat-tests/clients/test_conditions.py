"""Conditional requests: on reads, writes, completes, copies and deletes; one winner of every race."""

import concurrent.futures
import datetime
import threading

import botocore.exceptions
import pytest
from conftest import boto3_client

THREADS = 20


def code(call, **arguments) -> str:
    """The error code of a call, or an empty string."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return ""


def race(count: int, act) -> list:
    """Runs `act(number)` in threads that start together."""
    gate = threading.Barrier(count)

    def one(number: int):
        gate.wait()
        return act(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_reads(s3, wire, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"body")["ETag"]
    modified = wire.send("HEAD", f"/{bucket}/k").header("last-modified")
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"
    rows = [
        ({"if-match": etag}, 200),
        ({"if-match": etag.strip('"')}, 200),
        ({"if-match": f'"x", {etag}'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-none-match": etag}, 304),
        ({"if-none-match": f"W/{etag}"}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": past}, 200),
        ({"if-modified-since": future}, 200),
        ({"if-modified-since": "no date"}, 200),
        # RFC 850 and asctime: AWS does not read them.
        ({"if-modified-since": "Friday, 01-Jan-27 00:00:00 GMT"}, 200),
        ({"if-unmodified-since": "Mon Jan  1 00:00:00 2001"}, 200),
        ({"if-unmodified-since": modified}, 200),
        ({"if-unmodified-since": past}, 412),
        # RFC 9110 section 13.2.2: the ETag decides, the date does not.
        ({"if-match": etag, "if-unmodified-since": past}, 200),
        ({"if-none-match": '"x"', "if-modified-since": modified}, 200),
        ({"if-none-match": etag, "if-modified-since": past}, 304),
    ]
    for headers, status in rows:
        for method in ("GET", "HEAD"):
            # Some clients add conditions after they signed.
            for placed in ("headers", "late"):
                answer = wire.send(method, f"/{bucket}/k", **{placed: headers})
                assert answer.status == status, (method, headers, answer.status)
                if status == 304:
                    assert answer.body == b"" and answer.header("etag") == etag
                    assert answer.header("content-type") is None or b"xml" not in answer.header("content-type").encode()
    wire.send("GET", f"/{bucket}/k", headers={"if-match": '"x"'}).is_error(412, "PreconditionFailed", f"/{bucket}/k")


def test_writes(s3, wire, bucket):
    where = {"Bucket": bucket, "Key": "k"}
    assert code(s3.put_object, **where, Body=b"1", IfMatch='"x"') == "NoSuchKey"
    assert code(s3.put_object, **where, Body=b"1", IfNoneMatch="*") == ""
    assert code(s3.put_object, **where, Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert code(s3.put_object, **where, Body=b"2", IfMatch='"x"') == "PreconditionFailed"
    assert s3.get_object(**where)["Body"].read() == b"1"
    etag = s3.head_object(**where)["ETag"]
    assert code(s3.put_object, **where, Body=b"2", IfMatch=etag) == ""
    assert code(s3.put_object, **where, Body=b"3", IfMatch=etag) == "PreconditionFailed"
    assert s3.get_object(**where)["Body"].read() == b"2"
    # object_store adds the header after it signed.
    answer = wire.send("PUT", f"/{bucket}/k", b"4", late={"if-none-match": "*"})
    answer.is_error(412, "PreconditionFailed", f"/{bucket}/k")
    # AWS documents only `*` here; an ETag means what RFC 9110 says.
    wire.send("PUT", f"/{bucket}/k", b"4", headers={"if-none-match": s3.head_object(**where)["ETag"]}).is_error(412, "PreconditionFailed")
    assert wire.send("PUT", f"/{bucket}/k", b"2", headers={"if-none-match": '"x"'}).status == 200
    assert s3.get_object(**where)["Body"].read() == b"2"


def test_one_of_twenty_creates_it(server, s3, bucket):
    """If-None-Match: * over and over: exactly one wins, and the object is the winner's."""
    clients = [boto3_client(server) for _ in range(THREADS)]
    for turn in range(10):
        key = f"race-{turn}"
        codes = race(
            THREADS,
            lambda n: code(clients[n].put_object, Bucket=bucket, Key=key, Body=f"writer {n}".encode() * 1000, IfNoneMatch="*"),
        )
        winners = [number for number, result in enumerate(codes) if result == ""]
        assert len(winners) == 1, codes
        assert set(codes) - {""} <= {"PreconditionFailed", "ConditionalRequestConflict"}, codes
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == f"writer {winners[0]}".encode() * 1000


def test_a_counter_under_if_match_loses_nothing(server, s3, bucket):
    """Read, add one, write if nobody else did: every success counts, and the body never is a mix."""
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")
    clients = [boto3_client(server) for _ in range(8)]

    def add(number: int) -> int:
        won = 0
        for _ in range(25):
            got = clients[number].get_object(Bucket=bucket, Key="counter")
            value = int(got["Body"].read())
            if code(clients[number].put_object, Bucket=bucket, Key="counter", Body=str(value + 1).encode(), IfMatch=got["ETag"]) == "":
                won += 1
        return won

    won = sum(race(8, add))
    assert won > 0
    assert s3.get_object(Bucket=bucket, Key="counter")["Body"].read() == str(won).encode()


def test_one_of_twenty_locks(server, s3, bucket):
    """The lock of Terraform's S3 backend: PUT with If-None-Match: *, unlock by DELETE, over and over."""
    clients = [boto3_client(server) for _ in range(THREADS)]
    inside = threading.Semaphore(1)

    def work(number: int) -> int:
        held = 0
        for _ in range(10):
            if code(clients[number].put_object, Bucket=bucket, Key="state.tflock", Body=b"{}", IfNoneMatch="*") == "":
                assert inside.acquire(blocking=False), "two hold the lock"
                held += 1
                inside.release()
                clients[number].delete_object(Bucket=bucket, Key="state.tflock")
        return held

    assert sum(race(THREADS, work)) > 0
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def upload(s3, bucket, key, body=b"part"):
    """An upload with one part, and the arguments that complete it."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=body)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    return {"Bucket": bucket, "Key": key, "UploadId": upload_id, "MultipartUpload": parts}


def test_completes(server, s3, bucket):
    ready = upload(s3, bucket, "k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    assert code(s3.complete_multipart_upload, **ready, IfNoneMatch="*") == "PreconditionFailed"
    assert code(s3.complete_multipart_upload, **ready, IfMatch='"x"') == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    assert code(s3.complete_multipart_upload, **ready, IfMatch=etag) == ""
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"part"
    # Ten uploads of one key: one creates it.
    uploads = [upload(s3, bucket, "new", f"part {number}".encode()) for number in range(10)]
    clients = [boto3_client(server) for _ in range(10)]
    codes = race(10, lambda n: code(clients[n].complete_multipart_upload, **uploads[n], IfNoneMatch="*"))
    assert codes.count("") == 1, codes
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == f"part {codes.index('')}".encode()


def test_copies(s3, wire, bucket):
    etag = s3.put_object(Bucket=bucket, Key="from", Body=b"source")["ETag"]
    source = {"CopySource": {"Bucket": bucket, "Key": "from"}, "Bucket": bucket}
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    assert code(s3.copy_object, **source, Key="to", CopySourceIfMatch='"x"') == "PreconditionFailed"
    assert code(s3.copy_object, **source, Key="to", CopySourceIfNoneMatch=etag) == "PreconditionFailed"
    assert code(s3.copy_object, **source, Key="to", CopySourceIfUnmodifiedSince=past) == "PreconditionFailed"
    assert code(s3.head_object, Bucket=bucket, Key="to") == "404"
    assert code(s3.copy_object, **source, Key="to", CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=past) == ""
    assert code(s3.copy_object, **source, Key="to", CopySourceIfModifiedSince=past) == ""
    assert future.year > past.year
    path = f"/{bucket}/to"
    answer = wire.send("PUT", path, headers={"x-amz-copy-source": f"/{bucket}/from", "if-none-match": "*"})
    answer.is_error(412, "PreconditionFailed", path)
    answer = wire.send("PUT", path, headers={"x-amz-copy-source": f"/{bucket}/from", "if-match": '"x"'})
    answer.is_error(412, "PreconditionFailed", path)


def test_deletes(s3, wire, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"body")["ETag"]
    wire.send("DELETE", f"/{bucket}/k", headers={"if-match": '"x"'}).is_error(412, "PreconditionFailed", f"/{bucket}/k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    document = "<Delete><Object><Key>k</Key><ETag>&quot;x&quot;</ETag></Object></Delete>".encode()
    from hashlib import md5
    from base64 import b64encode

    headers = {"content-md5": b64encode(md5(document).digest()).decode()}
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers=headers)
    assert answer.status == 200 and b"<Code>PreconditionFailed</Code>" in answer.body, answer.body
    assert wire.send("DELETE", f"/{bucket}/k", headers={"if-match": etag}).status == 204
    assert code(s3.head_object, Bucket=bucket, Key="k") == "404"


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_readers_never_see_a_mix(server, bucket, size):
    """One writer overwrites, readers compare: each body is one writer's, and its ETag fits."""
    import hashlib

    writer, readers = boto3_client(server), [boto3_client(server) for _ in range(4)]
    writer.put_object(Bucket=bucket, Key="k", Body=b"0" * size)
    done = threading.Event()

    def write(_) -> int:
        for turn in range(1, 40):
            writer.put_object(Bucket=bucket, Key="k", Body=str(turn % 10).encode() * size)
        done.set()
        return 1

    def read(number: int) -> int:
        seen = 0
        while not done.is_set():
            got = readers[number].get_object(Bucket=bucket, Key="k")
            body = got["Body"].read()
            assert len(body) == size and len(set(body)) == 1, "a mix of two writers"
            assert got["ETag"].strip('"') == hashlib.md5(body).hexdigest(), "the ETag of another body"
            seen += 1
        return seen

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        tasks = [pool.submit(write, 0), *(pool.submit(read, number) for number in range(4))]
        assert all(task.result(120) for task in tasks)
