"""Requests that nobody should send: each gets AWS's code and status, in a whole error document, and changes nothing."""

import base64
import hashlib
import socket

import pytest
import sigv4
from conftest import ACCESS_KEY
from wire import Answer, Wire

BODY = b"what was there before"


@pytest.fixture
def path(s3, bucket):
    """An object that must survive whatever is sent."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    yield f"/{bucket}/k"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def bare(wire: Wire, head: str, method: str = "GET") -> Answer:
    """Sends exactly these lines."""
    with wire.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        return wire.read(connection, method)


# HTTP


@pytest.mark.parametrize(
    "lines",
    [
        "GET\n\n",
        "GET {path}\n\n",
        "GET {path} HTTP/1.1\nHost: {host}\nBad Header: x\n\n",
        "GET {path} HTTP/1.1\nHost: {host}\nX-A: a\n folded\n\n",
        "GET {path} HTTP/1.1\nHost: {host}\nX-A: a\0b\n\n",
        "GET {path} b HTTP/1.1\nHost: {host}\n\n",
        "GET {path}\x01 HTTP/1.1\nHost: {host}\n\n",
        "PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: -1\n\nx",
        "PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: one\n\nx",
        "PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 99999999999999999999\n\nx",
        "PUT {path} HTTP/1.1\nHost: {host}\nContent-Length: 1\nContent-Length: 2\n\nxx",
        "PUT {path} HTTP/1.1\nHost: {host}\nTransfer-Encoding: gzip\n\nx",
        "GET {path} HTTP/1.1\n\n",
    ],
    ids=[
        "no-target", "http-0.9", "header-name", "folding", "nul", "space", "control", "negative-length", "length-of-words", "huge-length",
        "two-lengths", "unknown-coding", "no-host",
    ],
)  # fmt: skip
def test_what_is_no_request(wire, path, lines):
    answer = bare(wire, lines.format(path=path, host=wire.host))
    answer.is_error(400, "BadRequest")
    assert answer.header("server") == "Sluice" and answer.header("date")


def test_a_head_beyond_all_measure(wire, path):
    for long in (f"GET {path} HTTP/1.1\nHost: {wire.host}\nX-A: {'x' * 200_000}\n\n", f"GET /{'k' * 200_000} HTTP/1.1\nHost: {wire.host}\n\n"):
        bare(wire, long).is_error(400, "RequestHeaderSectionTooLarge")


def test_refusals_before_the_front_are_counted(fresh):
    server = fresh()
    wire = Wire(server.port, ACCESS_KEY, "x")
    for _ in range(3):
        bare(wire, "GET\n\n").is_error(400, "BadRequest")
    assert server.metrics()['sluice_errors_total{code="BadRequest"}'] == 3


def test_two_hosts(wire, path):
    bare(wire, f"GET {path} HTTP/1.1\nHost: {wire.host}\nHost: elsewhere\n\n").is_error(400, "InvalidRequest", path)


def test_http_1_0(wire, path):
    """Old, but HTTP: answered, and the connection is closed. It needs no Host where the bucket stands in the path."""
    target = wire.signer.presign("GET", wire.host, path)
    with wire.connect() as connection:
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: {wire.host}\r\n\r\n".encode())
        answer = wire.read(connection)
        assert answer.status == 200 and answer.body == BODY
        assert connection.recv(1) == b""
    bare(wire, f"GET {path} HTTP/1.0\n\n").is_error(403, "AccessDenied", path)


def expecting(wire: Wire, path: str, **signing) -> tuple[bytes, Answer]:
    """A PUT of 5 bytes with Expect: 100-continue: what came before the body, and the answer."""
    given = {"host": wire.host, "content-length": "5", "expect": "100-continue"}
    headers = wire.signer.headers("PUT", path, None, given, **signing)
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", path, headers))
        interim = connection.recv(25, socket.MSG_PEEK)
        if interim.startswith(b"HTTP/1.1 100 Continue"):
            interim = connection.recv(25)
            connection.sendall(b"hello")
        else:
            interim = b""
        return interim, wire.read(connection, "PUT")


def test_expect_100_continue(wire, path, s3, bucket):
    """Nobody sends a body that is refused already."""
    interim, answer = expecting(wire, "/no-such-bucket-anywhere/k")
    assert interim == b""
    answer.is_error(404, "NoSuchBucket")
    wrong = Wire(wire.port, ACCESS_KEY, "wrong")
    interim, answer = expecting(wrong, path)
    assert interim == b""
    answer.is_error(403, "SignatureDoesNotMatch", path)
    interim, answer = expecting(wire, path, payload="0" * 64)
    assert interim
    answer.is_error(400, "XAmzContentSHA256Mismatch", path)
    interim, answer = expecting(wire, f"/{bucket}/new")
    assert interim and answer.status == 200
    s3.delete_object(Bucket=bucket, Key="new")


@pytest.mark.parametrize("target", ["/{bucket}/nothing", "/no-such-bucket-anywhere/k", "/{bucket}/%ff", "/{bucket}/%zz", "/{bucket}/" + "k" * 1025, "/"])
def test_a_head_is_refused_without_a_body(wire, path, bucket, target):
    """And the connection stays in step: the next answer on it is whole."""
    target = target.format(bucket=bucket)
    with wire.connect() as connection:
        headers = wire.signer.headers("HEAD", target, None, {"host": wire.host})
        connection.sendall(wire.head("HEAD", target, headers))
        refused = wire.read(connection, "HEAD")
        assert refused.status in (400, 403, 404, 405) and refused.header("x-amz-request-id") and refused.header("x-amz-id-2")
        headers = wire.signer.headers("GET", path, None, {"host": wire.host})
        connection.sendall(wire.head("GET", path, headers))
        assert wire.read(connection).body == BODY


# Addresses


@pytest.mark.parametrize("tail", ["%", "%z0", "%4", "%%41", "%ff", "%C3", "%ED%A0%80", "k?prefix=%", "k?prefix=%zz", "k?prefix=%ff"])
def test_uris_that_cannot_be_decoded(wire, path, bucket, tail):
    target = f"/{bucket}/{tail}"
    for method in ("GET", "PUT", "DELETE"):
        wire.plain(method, target).is_error(400, "InvalidURI", target.partition("?")[0])


@pytest.mark.parametrize("method,target", [("PUT", "/"), ("DELETE", "/"), ("PATCH", "/{bucket}/k"), ("POST", "/{bucket}/k")])
def test_methods_that_a_resource_does_not_know(wire, path, bucket, method, target):
    answer = wire.send(method, target.format(bucket=bucket))
    answer.is_error(405, "MethodNotAllowed", target.format(bucket=bucket))
    assert answer.error["Method"] == method


@pytest.mark.parametrize(
    "method,tail,names",
    [("GET", "", ("acl", "policy")), ("GET", "/k", ("tagging", "acl")), ("DELETE", "", ("cors", "tagging")), ("GET", "", ("uploads", "versions"))],
)
def test_two_sub_resources_at_once(wire, path, bucket, method, tail, names):
    answer = wire.send(method, f"/{bucket}{tail}", query=dict.fromkeys(names, ""))
    answer.is_error(400, "InvalidArgument", f"/{bucket}{tail}")
    assert answer.error["Message"] == f"Conflicting query string parameters: {names[0]}, {names[1]}"


@pytest.mark.parametrize("key", ["%00", "%01", "%7F", "%E2%80%A8", "%EF%BF%BE", "a%0Ab", "%20", "."])
def test_keys_of_control_characters_are_keys(wire, path, bucket, key):
    """They are stored, listed so that every parser reads it, and deleted."""
    target = f"/{bucket}/{key}"
    assert wire.send("PUT", target, b"odd").status == 200
    assert wire.send("GET", target).body == b"odd"
    listed = wire.send("GET", f"/{bucket}", query={"list-type": "2", "encoding-type": "url"})
    assert f"<Key>{key}</Key>".encode() in listed.body.replace(b"+", b"%20")
    assert wire.send("DELETE", target).status == 204
    assert wire.send("GET", target).status == 404


# Signatures


@pytest.mark.parametrize(
    "authorization,status,code",
    [
        ("", 403, "AccessDenied"),
        ("Basic dTpw", 400, "InvalidArgument"),
        ("Bearer x", 400, "InvalidArgument"),
        ("AWS4-HMAC-SHA512 Credential=x", 400, "InvalidArgument"),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/{day}, SignedHeaders=host, Signature={zeros}", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/{day}/us-east-1/s3/aws5, SignedHeaders=host, Signature={zeros}", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/1/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={zeros}", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/{day}/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature={zeros}", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/{day}/us-east-1/s3/aws4_request, SignedHeaders=host", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256 Credential={key}/{day}/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={zeros}", 403, "SignatureDoesNotMatch"),
        ("AWS4-HMAC-SHA256 Credential={key}/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={zeros}", 403, "SignatureDoesNotMatch"),
        ("AWS4-HMAC-SHA256 Credential=/{day}/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={zeros}", 403, "InvalidAccessKeyId"),
    ],
)  # fmt: skip
def test_authorization_headers(wire, path, authorization, status, code):
    stamp = sigv4.stamp(sigv4.now())
    value = authorization.format(key=ACCESS_KEY, day=stamp[:8], zeros="0" * 64)
    headers = {"authorization": value, "x-amz-content-sha256": sigv4.UNSIGNED}
    # The date is a header that must be signed, where the signature gets looked at.
    headers["date" if "SignedHeaders=host, Signature" in value and status == 403 else "x-amz-date"] = stamp
    answer = wire.plain("GET", path, headers=headers)
    if "date" in headers:
        assert answer.status == 403 and answer.error["Code"] in (code, "AccessDenied"), answer.body
    else:
        answer.is_error(status, code, path)


def test_a_signature_in_the_header_and_one_in_the_query(wire, path):
    """Whichever were looked at, the other would be for show."""
    signed = wire.signer.headers("GET", path, None, {"host": wire.host})
    answer = wire.plain("GET", wire.signer.presign("GET", wire.host, path), headers={k: v for k, v in signed.items() if k.lower() != "host"})
    answer.is_error(400, "InvalidArgument", path)
    assert "Only one auth mechanism allowed" in answer.error["Message"]


def test_a_hash_must_be_declared(wire, path):
    signed = wire.signer.headers("GET", path, None, {"host": wire.host})
    without = {k: v for k, v in signed.items() if k.lower() not in ("host", "x-amz-content-sha256")}
    answer = wire.plain("GET", path, headers=without)
    answer.is_error(400, "InvalidRequest", path)
    assert answer.error["Message"] == "Missing required header for this request: x-amz-content-sha256"


def test_presigned_for_another_algorithm_or_service(wire, path):
    target = wire.signer.presign("GET", wire.host, path)
    for wrong in (target.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), target.replace("%2Fs3%2F", "%2Fec2%2F")):
        assert wrong != target
        wire.plain("GET", wrong).is_error(400, "AuthorizationQueryParametersError", path)


# Conditions


def lines(wire: Wire, method: str, path: str, name: str, values: list[str], body: bytes = b"") -> Answer:
    """A request with a header in several lines."""
    given = {"host": wire.host, **({"content-length": str(len(body))} if method == "PUT" else {})}
    headers = wire.signer.headers(method, path, None, given)
    head = wire.head(method, path, headers)[:-2] + b"".join(f"{name}: {value}\r\n".encode() for value in values) + b"\r\n"
    with wire.connect() as connection:
        connection.sendall(head + body)
        return wire.read(connection, method)


def test_an_empty_condition_is_a_condition(wire, path):
    """A script whose variable is empty must not overwrite or delete what it meant to compare."""
    wire.send("PUT", path, b"new", headers={"if-match": ""}).is_error(412, "PreconditionFailed", path)
    wire.send("DELETE", path, headers={"if-match": ""}).is_error(412, "PreconditionFailed", path)
    wire.send("GET", path, headers={"if-match": ""}).is_error(412, "PreconditionFailed", path)
    assert wire.send("GET", path, headers={"if-none-match": ""}).status == 200


def test_a_condition_in_several_lines_is_one_list(wire, path):
    etag = wire.send("HEAD", path).header("etag")
    assert lines(wire, "GET", path, "If-None-Match", ['"x"', etag]).status == 304
    assert lines(wire, "GET", path, "If-Match", ['"x"', etag]).status == 200
    lines(wire, "GET", path, "If-Match", ['"x"', '"y"']).is_error(412, "PreconditionFailed", path)
    lines(wire, "PUT", path, "If-None-Match", ['"x"', "*"], b"new").is_error(501, "NotImplemented", path)


def test_conditions_that_s3_does_not_know_are_refused(wire, path):
    past = "Mon, 01 Jan 2001 00:00:00 GMT"
    for name in ("If-Unmodified-Since", "If-Modified-Since"):
        for method in ("PUT", "DELETE"):
            answer = wire.send(method, path, b"new" if method == "PUT" else b"", headers={name.lower(): past})
            answer.is_error(501, "NotImplemented", path)
            assert answer.error["Header"].lower() == name.lower()
    wire.send("DELETE", path, headers={"if-none-match": "*"}).is_error(501, "NotImplemented", path)


# Uploads, deletions, attributes


@pytest.mark.parametrize("upload_id", ["", "x", "../../etc/passwd", "a" * 2000, "\x00", "ü"])
def test_upload_ids_that_are_none(wire, path, upload_id):
    complete = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
    for method, query, body in (
        ("PUT", {"partNumber": "1"}, b"x"),
        ("GET", {}, b""),
        ("DELETE", {}, b""),
        ("POST", {}, complete),
    ):
        wire.send(method, path, body, query={**query, "uploadId": upload_id}).is_error(404, "NoSuchUpload", path)


@pytest.mark.parametrize("number", ["", "0", "10001", "-1", "1.5", "one", "99999999999999999999"])
def test_part_numbers_that_are_none(wire, path, number):
    wire.send("GET", path, query={"partNumber": number}).is_error(400, "InvalidArgument", path)
    wire.send("PUT", path, b"x", query={"partNumber": number, "uploadId": "x"}).is_error(400, "InvalidArgument", path)


def test_a_part_of_no_upload_is_no_object(wire, path):
    """A client that lost its upload id must not replace the object with a part."""
    wire.send("PUT", path, b"a part", query={"partNumber": "1"}).is_error(400, "InvalidArgument", path)


def delete(wire: Wire, bucket: str, document: bytes) -> Answer:
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    return wire.send("POST", f"/{bucket}", document, query={"delete": ""}, headers={"content-md5": md5})


@pytest.mark.parametrize(
    "document",
    [
        b"<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
        b"<Delete><Quiet>perhaps</Quiet><Object><Key>k</Key></Object></Delete>",
        b"<Delete><Object><Key>k</Key></Object></Delete>garbage",
        b"<Delete><Object><Key>k</Key></Object></Delete><Delete/>",
        b'<?xml version="1.0" encoding="ISO-8859-1"?><Delete><Object><Key>\xfc</Key></Object></Delete>',
        "<Delete><Object><Key>k</Key></Object></Delete>".encode("utf-16"),
        b"<a>" * 100_000,
    ],
    ids=["two-keys", "quiet", "garbage", "two-roots", "latin-1", "utf-16", "deep"],
)
def test_ambiguous_deletions_delete_nothing(wire, path, bucket, document):
    delete(wire, bucket, document).is_error(400, "MalformedXML", f"/{bucket}")


def test_a_deletion_must_be_protected(wire, path, bucket):
    document = b"<Delete><Object><Key>k</Key></Object></Delete>"
    wire.send("POST", f"/{bucket}", document, query={"delete": ""}).is_error(400, "InvalidRequest", f"/{bucket}")


@pytest.mark.parametrize(
    "headers,code",
    [
        ({"x-amz-website-redirect-location": "elsewhere"}, "InvalidRedirectLocation"),
        ({"x-amz-website-redirect-location": "ftp://host/"}, "InvalidRedirectLocation"),
        ({"x-amz-storage-class": "FREEZER"}, "InvalidStorageClass"),
        ({"x-amz-acl": "everybody"}, "InvalidArgument"),
        ({"x-amz-grant-read": "everybody"}, "InvalidArgument"),
        ({"x-amz-tagging": "a=1&a=2"}, "InvalidArgument"),
        ({"x-amz-tagging": "aws:a=1"}, "InvalidTag"),
        ({"x-amz-tagging": "&".join(f"k{n}=v" for n in range(11))}, "InvalidTag"),
        ({"x-amz-sdk-checksum-algorithm": "MD4"}, "InvalidRequest"),
        ({"x-amz-decoded-content-length": "5"}, "InvalidRequest"),
        ({"x-amz-copy-source": ""}, "InvalidArgument"),
        ({"x-amz-copy-source": "no-key"}, "InvalidArgument"),
        ({"x-amz-copy-source": "a/%ff"}, "InvalidArgument"),
        ({"x-amz-metadata-directive": "KEEP", "x-amz-copy-source": "{path}"}, "InvalidArgument"),
        ({"x-amz-copy-source": "{path}"}, "InvalidRequest"),
    ],
    ids=lambda value: None if isinstance(value, str) else "+".join(f"{k[6:]}={v[:12]}" for k, v in value.items()),
)
def test_headers_of_a_put(wire, path, headers, code):
    wire.send("PUT", path, headers={name: value.format(path=path) for name, value in headers.items()}).is_error(400, code, path)


def test_parameters_of_listings(wire, path, bucket):
    for query in (
        {"max-keys": "2147483648"},
        {"max-keys": "1.5"},
        {"encoding-type": "base64"},
        {"uploads": "", "max-uploads": "-1"},
        {"versions": "", "version-id-marker": "x"},
    ):
        wire.send("GET", f"/{bucket}", query=query).is_error(400, "InvalidArgument", f"/{bucket}")


# Forms


@pytest.mark.parametrize(
    "body,content_type",
    [
        (b"", "multipart/form-data; boundary=b"),
        (b"garbage", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b--\r\n", "multipart/form-data"),
        (b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disp", "multipart/form-data; boundary=b"),
    ],
    ids=["empty", "garbage", "no-file", "no-boundary", "cut"],
)
def test_forms_that_are_none(wire, path, bucket, body, content_type):
    wire.plain("POST", f"/{bucket}", body, {"content-type": content_type}).is_error(400, "MalformedPOSTRequest", f"/{bucket}")
