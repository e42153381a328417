"""Malformed requests: AWS's code and status as XML, nothing published, the old object byte-identical."""

import base64
import datetime
import hashlib
import socket

import pytest
import sigv4
from conftest import ACCESS_KEY, SECRET_KEY
from wire import Wire

OLD = b"the old object " * 100
NEW = b"the new object, longer than the old one " * 100


@pytest.fixture
def old(s3, bucket):
    """An object that must survive; checked after the test, attributes too."""
    put = s3.put_object(Bucket=bucket, Key="k", Body=OLD, Metadata={"age": "old"}, ContentType="text/x-old")
    yield f"/{bucket}/k"
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == OLD, "the old object changed"
    assert got["ETag"] == put["ETag"] and got["Metadata"] == {"age": "old"} and got["ContentType"] == "text/x-old"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Bodies


@pytest.mark.parametrize("payload", ["signed", "unsigned"])
def test_short_body(wire, old, payload):
    """The connection ends before Content-Length bytes came."""
    signing = {"payload": sha256(NEW) if payload == "signed" else sigv4.UNSIGNED}
    try:
        answer = wire.send("PUT", old, NEW[:-1], length=len(NEW), **signing)
    except (ConnectionError, OSError):
        return
    except Exception as error:  # the connection may simply be closed without an answer
        assert type(error).__name__ in ("RemoteDisconnected", "BadStatusLine", "IncompleteRead"), error
        return
    answer.is_error(400, "IncompleteBody", old)


def test_cut_connection(wire, old):
    """A client that vanishes in mid-body, with a reset."""
    for sent in (0, 1, len(NEW) // 2, len(NEW) - 1):
        headers = wire.signer.headers("PUT", old, None, {"host": wire.host, "content-length": str(len(NEW))})
        with wire.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(wire.head("PUT", old, headers) + NEW[:sent])


def test_wrong_md5(wire, old):
    wrong = base64.b64encode(hashlib.md5(b"something else").digest()).decode()
    wire.send("PUT", old, NEW, headers={"content-md5": wrong}).is_error(400, "BadDigest", old)


@pytest.mark.parametrize("digest", ["", "not base64!", "YWJj", base64.b64encode(b"x" * 20).decode()])
def test_invalid_md5(wire, old, digest):
    wire.send("PUT", old, NEW, headers={"content-md5": digest}).is_error(400, "InvalidDigest", old)


def test_wrong_sha256(wire, old):
    wire.send("PUT", old, NEW, payload=sha256(b"something else")).is_error(400, "XAmzContentSHA256Mismatch", old)


def test_invalid_payload_mode(wire, old):
    wire.send("PUT", old, NEW, payload="not-a-hash").is_error(400, "InvalidArgument", old)


@pytest.mark.parametrize("algorithm", list(sigv4.CHECKSUMS))
def test_wrong_checksum_header(wire, old, algorithm):
    wrong = sigv4.checksum(algorithm, b"something else")
    wire.send("PUT", old, NEW, headers={f"x-amz-checksum-{algorithm.lower()}": wrong}).is_error(400, "BadDigest", old)


@pytest.mark.parametrize("algorithm", list(sigv4.CHECKSUMS))
def test_invalid_checksum_header(wire, old, algorithm):
    answer = wire.send("PUT", old, NEW, headers={f"x-amz-checksum-{algorithm.lower()}": "bm9wZQ"})
    answer.is_error(400, "BadDigest", old)


def test_two_checksum_headers(wire, old):
    headers = {"x-amz-checksum-crc32": sigv4.checksum("CRC32", NEW), "x-amz-checksum-sha1": sigv4.checksum("SHA1", NEW)}
    wire.send("PUT", old, NEW, headers=headers).is_error(400, "InvalidRequest", old)


def test_no_length(wire, old):
    wire.send("PUT", old, headers={"x-nothing": "1"}, length=None).is_error(411, "MissingContentLength", old)


def test_too_large(wire, old):
    """More than 5 GiB is refused before a byte is read."""
    headers = wire.signer.headers("PUT", old, None, {"host": wire.host, "content-length": str((5 << 30) + 1)})
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", old, headers))
        wire.read(connection, "PUT").is_error(400, "EntityTooLarge", old)


def test_a_longer_body_is_not_read_as_part_of_the_object(wire, old, s3, bucket):
    """Bytes beyond Content-Length belong to the next request on the connection."""
    headers = wire.signer.headers("PUT", f"/{bucket}/long", None, {"host": wire.host, "content-length": "4"})
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", f"/{bucket}/long", headers) + b"fourGARBAGE\r\n\r\n")
        assert wire.read(connection, "PUT").status == 200
    assert s3.get_object(Bucket=bucket, Key="long")["Body"].read() == b"four"
    s3.delete_object(Bucket=bucket, Key="long")


# aws-chunked

MODES = [sigv4.STREAMING, sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER]
TRAILER_MODES = [sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER]
CHUNKS = [NEW[:8192], NEW[8192:]] if len(NEW) > 8192 else [NEW]


@pytest.mark.parametrize("mode", MODES)
def test_missing_terminal_chunk(wire, old, mode):
    algorithm = "CRC32" if mode != sigv4.STREAMING else None
    answer = wire.chunked(old, [NEW], mode, algorithm, terminal=False)
    assert answer.error["Code"] == "IncompleteBody" or (algorithm and answer.error["Code"] == "MalformedTrailerError"), answer.body
    answer.is_error(400, answer.error["Code"], old)


@pytest.mark.parametrize("mode", TRAILER_MODES)
@pytest.mark.parametrize("algorithm", list(sigv4.CHECKSUMS))
def test_wrong_trailer(wire, old, mode, algorithm):
    wrong = sigv4.checksum(algorithm, b"something else")
    wire.chunked(old, [NEW], mode, algorithm, value=wrong).is_error(400, "BadDigest", old)


@pytest.mark.parametrize("mode", TRAILER_MODES)
def test_missing_trailer(wire, old, mode):
    answer = wire.chunked(old, [NEW], mode, "CRC32", trailer=False)
    assert answer.error["Code"] in ("MalformedTrailerError", "InvalidRequest"), answer.body
    answer.is_error(400, answer.error["Code"], old)


@pytest.mark.parametrize("mode", TRAILER_MODES)
def test_malformed_trailer(wire, old, mode):
    answer = wire.chunked(old, [NEW], mode, "CRC32", value="not base64")
    assert answer.error["Code"] in ("MalformedTrailerError", "InvalidRequest", "BadDigest"), answer.body
    answer.is_error(400, answer.error["Code"], old)


@pytest.mark.parametrize("mode", [sigv4.STREAMING, sigv4.STREAMING_TRAILER])
@pytest.mark.parametrize("chunk", [0, 1])
def test_wrong_chunk_signature(wire, old, mode, chunk):
    algorithm = "CRC32" if mode != sigv4.STREAMING else None
    answer = wire.chunked(old, [NEW], mode, algorithm, wrong_chunk=chunk)
    answer.is_error(403, "SignatureDoesNotMatch", old)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lie", [-1, 1])
def test_false_decoded_length(wire, old, mode, lie):
    algorithm = "CRC32" if mode != sigv4.STREAMING else None
    answer = wire.chunked(old, [NEW], mode, algorithm, declared=len(NEW) + lie)
    assert answer.status == 400, (answer.status, answer.body)
    assert answer.error["Code"] in ("IncompleteBody", "InvalidRequest"), answer.body


@pytest.mark.parametrize("mode", MODES)
def test_cut_connection_in_a_chunk(wire, old, mode):
    given = {
        "host": wire.host,
        "content-encoding": "aws-chunked",
        "content-length": "100000",
        "x-amz-decoded-content-length": "90000",
    }
    if mode != sigv4.STREAMING:
        given["x-amz-trailer"] = "x-amz-checksum-crc32"
    headers = wire.signer.headers("PUT", old, None, given, payload=mode)
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", old, headers) + b"10000\r\n" + b"x" * 5000)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 200"), answer


@pytest.mark.parametrize(
    "framing",
    [b"zz\r\nxx\r\n0\r\n\r\n", b"-1\r\n\r\n", b"ffffffffffffffff\r\n", b"5\r\nabcdeXX0\r\n\r\n", b"\r\n\r\n", b"5;" + b"x" * 70000],
    ids=["not-hex", "negative", "huge", "no-crlf", "empty", "endless-extension"],
)
def test_malformed_framing(wire, old, framing):
    given = {
        "host": wire.host,
        "content-encoding": "aws-chunked",
        "content-length": str(len(framing)),
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    headers = wire.signer.headers("PUT", old, None, given, payload=sigv4.UNSIGNED_TRAILER)
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", old, headers) + framing)
        answer = wire.read(connection, "PUT")
    assert answer.status == 400, (answer.status, answer.body)
    assert answer.error["RequestId"]


# Signatures


def test_bad_signature(wire, server, old):
    wrong = Wire(server.port, ACCESS_KEY, SECRET_KEY + "x")
    answer = wrong.send("PUT", old, NEW)
    answer.is_error(403, "SignatureDoesNotMatch", old)
    assert SECRET_KEY not in answer.body.decode()


def test_unknown_access_key(server, old):
    Wire(server.port, "NOBODYNOBODYNOBODY01", SECRET_KEY).send("PUT", old, NEW).is_error(403, "InvalidAccessKeyId", old)


@pytest.mark.parametrize("minutes", [-16, 16])
def test_skew(wire, old, minutes):
    when = sigv4.now() + datetime.timedelta(minutes=minutes)
    wire.send("PUT", old, NEW, when=when).is_error(403, "RequestTimeTooSkewed", old)


def test_anonymous(wire, old):
    wire.plain("PUT", old, NEW).is_error(403, "AccessDenied", old)
    wire.plain("GET", old).is_error(403, "AccessDenied", old)
    wire.plain("DELETE", old).is_error(403, "AccessDenied", old)
    # Framing must not become data, whoever sends it.
    framed = sigv4.unsigned_chunks([NEW], ("x-amz-checksum-crc32", sigv4.checksum("CRC32", NEW)))
    headers = {"content-encoding": "aws-chunked", "x-amz-content-sha256": sigv4.UNSIGNED_TRAILER}
    headers |= {"x-amz-decoded-content-length": str(len(NEW)), "x-amz-trailer": "x-amz-checksum-crc32"}
    assert wire.plain("PUT", old, framed, headers).status in (400, 403)


@pytest.mark.parametrize(
    "authorization",
    ["", "nonsense", "Bearer abc", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y", "AWS a:b"],
)
def test_malformed_authorization(wire, old, authorization):
    headers = {"authorization": authorization, "x-amz-date": sigv4.stamp(sigv4.now()), "x-amz-content-sha256": sigv4.UNSIGNED}
    answer = wire.plain("PUT", old, NEW, headers)
    assert answer.status in (400, 403), (answer.status, answer.body)
    assert answer.error["Code"] and answer.error["RequestId"]


def test_a_header_that_was_not_signed_by_the_sender(wire, old, s3, bucket):
    """x-amz-* headers beyond the signature are refused: they would change what was signed."""
    wire.send("PUT", old, NEW, late={"x-amz-meta-late": "x"}).is_error(403, "AccessDenied", old)
    wire.send("PUT", f"/{bucket}/loot", late={"x-amz-copy-source": old}).is_error(403, "AccessDenied")


def test_another_identity(server, old, wire):
    """Every bucket has its owner; a stranger gets AccessDenied and learns nothing."""
    name = f"stranger{server.port}"
    access, secret = f"STRANGER{server.port:012d}", "a/secret/of/a/stranger/with/forty/chars/"
    if name not in _strangers:
        server.create_key(name, access, secret)
        _strangers.add(name)
    stranger = Wire(server.port, access, secret)
    for method in ("GET", "PUT", "DELETE"):
        stranger.send(method, old, NEW if method == "PUT" else b"").is_error(403, "AccessDenied", old)
    assert stranger.send("HEAD", old).status == 403
    listing = stranger.send("GET", "/")
    assert listing.status == 200 and b"<Bucket>" not in listing.body


_strangers: set[str] = set()


# Names and operations


@pytest.mark.parametrize("name", ["ab", "UPPER", "under_score", "a" * 64, "-dash", "dash-", "dot..dot", "192.168.0.1", "a.-b"])
def test_invalid_bucket_names(wire, name):
    wire.send("PUT", f"/{name}").is_error(400, "InvalidBucketName", f"/{name}")


def test_missing_things(wire, bucket, s3):
    wire.send("GET", "/no-such-bucket-here/k").is_error(404, "NoSuchBucket", "/no-such-bucket-here/k")
    wire.send("PUT", "/no-such-bucket-here/k", b"x").is_error(404, "NoSuchBucket", "/no-such-bucket-here/k")
    answer = wire.send("GET", f"/{bucket}/no%20such%2Bkey")
    answer.is_error(404, "NoSuchKey")
    assert answer.error["Key"] == "no such+key"
    head = wire.send("HEAD", f"/{bucket}/nothing")
    assert head.status == 404 and head.body == b"" and head.header("x-amz-request-id")
    assert wire.send("DELETE", f"/{bucket}/nothing").status == 204
    wire.send("DELETE", "/no-such-bucket-here").is_error(404, "NoSuchBucket")


def test_key_too_long(wire, bucket):
    wire.send("PUT", f"/{bucket}/{'k' * 1025}", b"x").is_error(400, "KeyTooLongError")


def test_metadata_too_large(wire, old):
    """2 KiB of names and values together."""
    wire.send("PUT", old, NEW, headers={"x-amz-meta-a": "x" * 2048}).is_error(400, "MetadataTooLarge", old)


@pytest.mark.parametrize("sub", ["analytics", "inventory", "metrics", "intelligent-tiering"])
def test_operations_that_are_not_there(wire, bucket, sub):
    """Valid XML, never an empty success."""
    answer = wire.send("PUT", f"/{bucket}", b"<X/>", query={sub: "", "id": "x"})
    answer.is_error(501, "NotImplemented")


def test_versioning_status_of_a_plain_bucket(wire, bucket):
    answer = wire.send("GET", f"/{bucket}", query={"versioning": ""})
    assert answer.status == 200 and b"<Status>" not in answer.body


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "FOO"])
def test_unknown_methods(wire, old, method):
    assert wire.send(method, old).status in (400, 405, 501)


# XML


@pytest.mark.parametrize(
    "document",
    [b"", b"<Delete>", b"not xml", b"<Delete></Delete>", b"<Other/>", b"<Delete><Object></Object></Delete>",
     b'<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>'],
    ids=["empty", "cut", "text", "no-objects", "other", "no-key", "entity"],
)
def test_malformed_delete(wire, old, bucket, document):
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": md5})
    assert answer.status == 400, (answer.status, answer.body)
    assert answer.error["Code"] in ("MalformedXML", "MissingRequestBodyError", "UserKeyMustBeSpecified"), answer.body


def test_delete_of_cdata_never_means_the_empty_key(wire, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a&b", Body=b"x")
    document = b"<Delete><Object><Key><![CDATA[a&b]]></Key></Object></Delete>"
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": md5})
    if answer.status == 200:
        assert b"a&amp;b" in answer.body
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    else:
        answer.is_error(400, "MalformedXML")


def test_delete_with_wrong_md5(wire, old, bucket):
    document = b"<Delete><Object><Key>k</Key></Object></Delete>"
    wrong = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": wrong}).is_error(400, "BadDigest")
    wrong = sigv4.checksum("CRC32", b"x")
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"x-amz-checksum-crc32": wrong})
    answer.is_error(400, "BadDigest")


def test_delete_of_too_many(wire, old, bucket):
    objects = b"".join(b"<Object><Key>k%d</Key></Object>" % number for number in range(1001))
    document = b"<Delete>" + objects + b"</Delete>"
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": md5})
    answer.is_error(400, "MalformedXML")


def test_delete_of_a_thousand_escaped_keys(wire, s3, bucket):
    """The largest legal document: 1000 keys of 1024 ampersands, 5 MB of XML."""
    keys = [b"%04d" % number + b"&amp;" * 1020 for number in range(1000)]
    s3.put_object(Bucket=bucket, Key="0007" + "&" * 1020, Body=b"x")
    document = b"<Delete>" + b"".join(b"<Object><Key>" + key + b"</Key></Object>" for key in keys) + b"</Delete>"
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    answer = wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": md5})
    assert answer.status == 200 and answer.body.count(b"<Deleted>") == 1000, answer.body[:500]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("document", [b"", b"<CompleteMultipartUpload>", b"<CompleteMultipartUpload/>", b"<X/>"])
def test_malformed_complete(wire, s3, bucket, document):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"x")
    answer = wire.send("POST", f"/{bucket}/m", document, query={"uploadId": upload})
    assert answer.status == 400, (answer.status, answer.body)
    assert answer.error["Code"] in ("MalformedXML", "InvalidRequest"), answer.body
    assert len(s3.list_parts(Bucket=bucket, Key="m", UploadId=upload)["Parts"]) == 1


def test_malformed_list_parameters(wire, bucket):
    for query in ({"max-keys": "-1"}, {"max-keys": "many"}, {"list-type": "2", "continuation-token": "not a token!"}):
        answer = wire.send("GET", f"/{bucket}", query=query)
        answer.is_error(400, "InvalidArgument", f"/{bucket}")


# HTTP itself


def test_garbage_is_answered_and_hung_up(wire, old):
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000 + b"\r\n\r\n"):
        with wire.connect() as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                received = connection.recv(65536)
            except ConnectionError:
                received = b""
            assert not received or received.startswith(b"HTTP/1."), received


def test_many_headers_are_refused(wire, old):
    for size in (1, 1000):
        answer = wire.plain("GET", old, headers={f"x-filler-{number}": "x" * size for number in range(600)})
        answer.is_error(400, "RequestHeaderSectionTooLarge")
