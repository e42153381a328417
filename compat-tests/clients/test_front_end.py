"""What the gateway does around the S3 operations: connections, lengths, headers, framing that nobody signed."""

import ctypes
import hashlib
import os
import pathlib
import socket

import botocore.exceptions
import pytest
import sigv4
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from wire import Wire


def servers_side(pid: int, client: socket.socket) -> socket.socket:
    """The other end of a connection, taken out of the process that holds it (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                if not os.readlink(entry).startswith("socket:"):
                    continue
            except OSError:
                continue
            number = libc.syscall(438, process, int(entry.name), 0)
            if number < 0:
                pytest.skip(f"may not look into the gateway's process: {os.strerror(ctypes.get_errno())}")
            found = socket.socket(fileno=number)
            try:
                if found.family == socket.AF_INET and found.getpeername() == client.getsockname():
                    return found
            except OSError:
                pass
            found.close()
    finally:
        os.close(process)
    raise AssertionError("the gateway does not hold the other end")


def test_small_answers_do_not_wait(local):
    """TCP_NODELAY is set: without it a small GET waits 40 ms for the client's acknowledgement."""
    wire = Wire(local.port, ACCESS_KEY, SECRET_KEY)
    with wire.connect() as connection:
        # Accepted and served, not only queued.
        connection.sendall(wire.head("GET", "/", wire.signer.headers("GET", "/", None, {"host": wire.host})))
        assert wire.read(connection).status == 200
        with servers_side(local.pid, connection) as end:
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("method,tail,query,headers,status", [
    ("PUT", "", {}, {}, 200),
    ("POST", "/new", {"uploads": ""}, {}, 200),
    ("PUT", "/copy", {}, {"x-amz-copy-source": "{bucket}/k"}, 200),
    ("GET", "/k", {}, {}, 200),
    ("DELETE", "/k", {}, {}, 204),
    ("DELETE", "", {"tagging": ""}, {}, 204),
], ids=["create-bucket", "create-upload", "copy", "get", "delete", "delete-tags"])  # fmt: skip
def test_what_has_no_body_needs_no_length(wire, s3, bucket, method, tail, query, headers, status):
    """Many clients send no Content-Length where there is no body; AWS asks for it only where there must be one."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    name = bucket if tail or query else f"{bucket[:60]}-x"
    given = {key: value.format(bucket=bucket) for key, value in headers.items()}
    answer = wire.send(method, f"/{name}{tail}", query=query, headers=given, length=None)
    assert answer.status == status, answer.body


def test_framing_in_an_open_bucket_is_never_data(wire, s3, bucket):
    """Whoever may write without a signature may not store the framing of a body that nobody decoded."""
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert wire.plain("PUT", f"/{bucket}/plain", b"hello").status == 200
    trailer = ("x-amz-checksum-crc32", sigv4.checksum("CRC32", b"hello"))
    framed = sigv4.unsigned_chunks([b"hello"], trailer)
    declared = {"x-amz-decoded-content-length": "5", "x-amz-trailer": trailer[0]}
    for headers in (
        {"content-encoding": "aws-chunked", "x-amz-content-sha256": sigv4.UNSIGNED_TRAILER, **declared},
        {"x-amz-content-sha256": sigv4.UNSIGNED_TRAILER, **declared},
        {"x-amz-content-sha256": sigv4.STREAMING, "x-amz-decoded-content-length": "5"},
        {"content-encoding": "aws-chunked"},
        declared,
    ):
        answer = wire.plain("PUT", f"/{bucket}/framed", framed, headers)
        if answer.status == 200:
            assert s3.get_object(Bucket=bucket, Key="framed")["Body"].read() == b"hello", headers
        else:
            answer.is_error(400, answer.error["Code"], f"/{bucket}/framed")
            assert wire.send("HEAD", f"/{bucket}/framed").status == 404, headers


def test_anonymous_readers_cannot_choose_headers(wire, s3, bucket):
    """response-* is for those who sign: else a link to an open object would show whatever its sender wants."""
    s3.put_object(Bucket=bucket, Key="open", Body=b"x", ACL="public-read")
    assert wire.plain("GET", f"/{bucket}/open").body == b"x"
    wire.plain("GET", f"/{bucket}/open?response-content-type=text%2Fhtml").is_error(400, "InvalidRequest", f"/{bucket}/open")


def test_many_short_metadata_headers(wire, bucket):
    """The limit of user metadata is 2 KiB, however many they are."""
    headers = {f"x-amz-meta-{number:03d}": "v" for number in range(300)}
    assert wire.send("PUT", f"/{bucket}/k", b"x", headers=headers).status == 200
    got = header_names(wire, f"/{bucket}/k")
    assert {name.lower() for name in got if name.lower().startswith("x-amz-meta-")} == set(headers)


def header_names(wire: Wire, path: str) -> list[str]:
    """The names of the headers of a HEAD, read by hand: http.client stops at a hundred."""
    with wire.connect() as connection:
        headers = wire.signer.headers("HEAD", path, None, {"host": wire.host, "connection": "close"})
        connection.sendall(wire.head("HEAD", path, headers))
        text = b""
        while block := connection.recv(65536):
            text += block
    return [line.split(b":")[0].decode() for line in text.split(b"\r\n")[1:] if b":" in line]


def test_a_foreign_file_exists(fresh, tmp_path):
    """Whether there is an object is told by the file, not by what the gateway noted about it."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="found")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_bytes(b"not ours")
    server.mount("found", "m/", "local", root=str(tmp_path / "folder"))
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.put_object(Bucket="found", Key="m/letter", Body=b"ours", IfNoneMatch="*")
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    assert (tmp_path / "folder" / "letter").read_bytes() == b"not ours"
    etag = s3.head_object(Bucket="found", Key="m/letter")["ETag"]
    s3.put_object(Bucket="found", Key="m/letter", Body=b"ours", IfMatch=etag)
    assert (tmp_path / "folder" / "letter").read_bytes() == b"ours"


def test_the_etag_of_a_foreign_file_is_of_its_bytes(fresh, tmp_path):
    """One of inode, size and time would repeat: edits of the same size come faster than the clock of a file system ticks."""
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="edited")
    (tmp_path / "folder").mkdir()
    server.mount("edited", "m/", "local", root=str(tmp_path / "folder"))
    for number in range(100, 150):
        text = str(number).encode()
        (tmp_path / "folder" / "note").write_bytes(text)
        got = s3.get_object(Bucket="edited", Key="m/note")
        assert got["Body"].read() == text
        assert got["ETag"] == f'"{hashlib.md5(text).hexdigest()}"'
