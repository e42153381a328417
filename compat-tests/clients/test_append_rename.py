"""Appending by write offset and RenameObject, as S3 Express defines them, on mounts of files and of memory."""

import base64
import os
import zlib

from test_conditions import code, race


def test_append(s3, bucket, server):
    """Piece by piece: sizes, content, ranges, checksums; what is not at the end is refused."""
    where = {"Bucket": bucket, "Key": "dir/log"}
    pieces = [b"first\n", os.urandom(300_000), b"x", os.urandom(2_000_000), b"last\n"]
    whole, etags = b"", set()
    for piece in pieces:
        answer = s3.put_object(**where, Body=piece, WriteOffsetBytes=len(whole), ContentType="text/log", ChecksumAlgorithm="CRC32")
        whole += piece
        assert answer["Size"] == len(whole)
        crc = base64.b64encode(zlib.crc32(whole).to_bytes(4, "big")).decode()
        assert answer["ChecksumCRC32"] == crc
        etags.add(answer["ETag"])
    assert len(etags) == len(pieces)
    got = s3.get_object(**where, ChecksumMode="ENABLED")
    assert (got["ContentType"], got["ETag"], got["ChecksumCRC32"]) == ("text/log", answer["ETag"], crc)
    assert got["Body"].read() == whole
    assert s3.get_object(**where, Range="bytes=3-300010")["Body"].read() == whole[3:300011]
    [listed] = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (listed["Size"], listed["ETag"]) == (len(whole), answer["ETag"])
    for offset in (0, 1, len(whole) - 1, len(whole) + 1):
        assert code(s3.put_object, **where, Body=b"no", WriteOffsetBytes=offset) == "InvalidWriteOffset"
    assert code(s3.put_object, Bucket=bucket, Key="none", Body=b"no", WriteOffsetBytes=1) == "InvalidWriteOffset"
    assert code(s3.put_object, **where, Body=b"", WriteOffsetBytes=len(whole)) == "InvalidRequest"
    assert code(s3.put_object, **where, Body=b"no", WriteOffsetBytes=len(whole), Metadata={"a": "b"}) == "InvalidRequest"
    assert code(s3.put_object, **where, Body=b"no", WriteOffsetBytes=len(whole), IfMatch='"x"') == "PreconditionFailed"
    assert s3.head_object(**where)["ContentLength"] == len(whole)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == whole


def test_one_append_at_an_offset_wins(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123")
    answers = race(8, lambda n: code(s3.put_object, Bucket=bucket, Key="k", Body=bytes([65 + n]) * 5, WriteOffsetBytes=4))
    assert sorted(answers) == [""] + ["InvalidWriteOffset"] * 7
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 9


def test_what_is_not_appended_to(s3, bucket):
    s3.put_object(Bucket=bucket, Key="sealed", Body=b"x", ServerSideEncryption="AES256")
    assert code(s3.put_object, Bucket=bucket, Key="sealed", Body=b"y", WriteOffsetBytes=1) == "NotImplemented"
    assert code(s3.rename_object, Bucket=bucket, Key="other", RenameSource="/sealed") == "NotImplemented"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert code(s3.put_object, Bucket=bucket, Key="k", Body=b"y", WriteOffsetBytes=1) == "NotImplemented"
    assert code(s3.rename_object, Bucket=bucket, Key="other", RenameSource="/k") == "NotImplemented"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_rename(s3, bucket):
    """Bytes, metadata and ETag come along; a name that is taken is given up, unless the conditions say no."""
    put = s3.put_object(Bucket=bucket, Key="a ü", Body=b"body", ContentType="text/x", Metadata={"m": "1"}, Tagging="t=1")
    s3.rename_object(Bucket=bucket, Key="d/b", RenameSource="/a%20%C3%BC")
    got = s3.get_object(Bucket=bucket, Key="d/b")
    assert (got["ETag"], got["ContentType"], got["Metadata"], got["Body"].read()) == (put["ETag"], "text/x", {"m": "1"}, b"body")
    assert s3.get_object_tagging(Bucket=bucket, Key="d/b")["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert code(s3.head_object, Bucket=bucket, Key="a ü") == "404"
    s3.put_object(Bucket=bucket, Key="taken", Body=b"old")
    names = {"Bucket": bucket, "Key": "taken", "RenameSource": f"/{bucket}/d/b"}
    assert code(s3.rename_object, **names, DestinationIfNoneMatch="*") == "PreconditionFailed"
    assert code(s3.rename_object, **names, DestinationIfMatch='"x"') == "PreconditionFailed"
    assert code(s3.rename_object, **names, SourceIfMatch='"x"') == "PreconditionFailed"
    assert code(s3.rename_object, **names, SourceIfNoneMatch=put["ETag"]) == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="taken")["Body"].read() == b"old"
    s3.rename_object(**names, SourceIfMatch=put["ETag"])
    assert s3.get_object(Bucket=bucket, Key="taken")["Body"].read() == b"body"
    assert code(s3.rename_object, **names) == "NoSuchKey"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["taken"]


def test_a_rename_asked_for_again(s3, bucket):
    """A client token tells the second try of a request from another request."""
    s3.put_object(Bucket=bucket, Key="from", Body=b"x")
    request = {"Bucket": bucket, "Key": "to", "RenameSource": "/from", "ClientToken": "token-1"}
    for _ in range(3):
        s3.rename_object(**request)
    assert code(s3.rename_object, **request | {"RenameSource": "/elsewhere"}) == "IdempotencyParameterMismatch"
    assert code(s3.rename_object, **request | {"ClientToken": "token-2"}) == "NoSuchKey"
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == b"x"


def test_of_many_renames_one_wins(s3, bucket):
    s3.put_object(Bucket=bucket, Key="from", Body=b"x")
    answers = race(8, lambda n: code(s3.rename_object, Bucket=bucket, Key=f"to/{n}", RenameSource="/from"))
    assert answers.count("") == 1 and set(answers) <= {"", "NoSuchKey", "ConditionalRequestConflict"}, answers
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 1
