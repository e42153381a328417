"""The provider `opendal` on real servers, which are started here: WebDAV and SFTP by rclone, Azure Blob by Azurite, HTTP by Python."""

import concurrent.futures
import contextlib
import functools
import hashlib
import http.server
import io
import os
import pathlib
import socket
import subprocess
import threading
import time

import botocore.exceptions
import pytest
from conftest import boto3_client, bucket_name, program
from gateway import Gateway, clean_environment, free_port

MIB = 1 << 20
# The account that every Azurite has, which is no secret: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# rclone remembers its directories; not for long here.
FRESH = ["--dir-cache-time", "100ms"]


class Place:
    """Somewhere to mount: the settings, and the directory behind it where there is one."""

    def __init__(self, settings: dict[str, str], root: pathlib.Path | None):
        self.settings = settings
        self.root = root


@contextlib.contextmanager
def serving(command: list[str], port: int, environment: dict[str, str] | None = None):
    """A server as long as it is needed, from the moment it listens."""
    process = subprocess.Popen(
        command,
        env=environment or clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, f"{command[0]} ended by itself"
            assert time.monotonic() < until, f"{command[0]} does not listen"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def webdav_command(root: pathlib.Path, port: int) -> list[str]:
    address = f"127.0.0.1:{port}"
    return [program("rclone"), "serve", "webdav", "--addr", address, "--user", "me", "--pass", "w0rd", *FRESH, str(root)]


@pytest.fixture(scope="module")
def webdav(tmp_path_factory):
    """`rclone serve webdav`."""
    folder = tmp_path_factory.mktemp("webdav")
    (root := folder / "root").mkdir()
    (folder / "credentials").write_text("# of the share\npassword = w0rd\n")
    port = free_port()
    settings = {"service": "webdav", "endpoint": f"http://127.0.0.1:{port}", "user": "me", "credentials_file": f"{folder}/credentials"}
    with serving(webdav_command(root, port), port):
        yield Place(settings, root)


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    """`rclone serve sftp`, reached by ssh with a key."""
    program("ssh")
    folder = tmp_path_factory.mktemp("sftp")
    (root := folder / "root").mkdir()
    for name in "host", "user":
        made = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [program("rclone"), "serve", "sftp", "--addr", address, "--key", f"{folder}/host"]
    command += ["--authorized-keys", f"{folder}/user.pub", *FRESH, str(root)]
    settings = {"service": "sftp", "endpoint": f"ssh://127.0.0.1:{port}", "user": "me", "key_file": f"{folder}/user", "known_hosts": "accept"}
    with serving(command, port):
        yield Place(settings, root)


@pytest.fixture(scope="module")
def azblob(tmp_path_factory):
    """Azurite, which `compat-tests/run` installs: AZURITE_BLOB names its program unless it is on the path."""
    azurite = os.environ.get("AZURITE_BLOB") or program("azurite-blob")
    folder = tmp_path_factory.mktemp("azurite")
    (folder / "credentials").write_text(f"account_key = {AZURITE_KEY}\n")
    port = free_port()
    command = [azurite, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--disableTelemetry"]
    endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
    settings = {"service": "azblob", "endpoint": endpoint, "account_name": "devstoreaccount1", "container": "box"}
    with serving(command, port):
        make_container(port, "box")
        yield Place({**settings, "credentials_file": f"{folder}/credentials"}, None)


def make_container(port: int, name: str) -> None:
    """PUT of a container with a Shared Key (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key)."""
    import base64
    import email.utils
    import hmac
    import http.client

    date = email.utils.formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text = "PUT" + "\n" * 12 + headers + f"/devstoreaccount1/devstoreaccount1/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), "sha256")).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    sent = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey devstoreaccount1:{signature}", "Content-Length": "0"}
    connection.request("PUT", f"/devstoreaccount1/{name}?restype=container", headers=sent)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


@pytest.fixture(params=["webdav", "sftp", "azblob"])
def place(request):
    """Each service in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def mounted(request, place, local):
    """A bucket with the service at `far/`, in a root of its own."""
    bucket = bucket_name(request)
    s3 = boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    local.mount(bucket, "far/", "opendal", root=f"/{bucket}", **place.settings)
    yield local, s3, bucket, place
    local.command("mount", "rm", bucket, "far/")


def refusal(call, **arguments) -> tuple[int, str]:
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call(**arguments)
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"].get("Message", "")


def keys(s3, bucket: str, **query) -> list[str]:
    """All keys of a listing, page after page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **query)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def test_objects(mounted):
    """Bytes, ranges, attributes, copies and deletes."""
    server, s3, bucket, place = mounted
    body = os.urandom(1_500_000)
    name = "far/dir/ü +%&.bin"
    put = s3.put_object(Bucket=bucket, Key=name, Body=body, ContentType="image/x-test", Metadata={"colour": "blue"}, Tagging="a=b")
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    assert put["ETag"] == etag
    got = s3.get_object(Bucket=bucket, Key=name)
    assert (got["ETag"], got["ContentType"], got["Metadata"]) == (etag, "image/x-test", {"colour": "blue"})
    assert got["Body"].read() == body
    if place.root:
        # Others see the plain file.
        assert (place.root / bucket / "dir/ü +%&.bin").read_bytes() == body
    for asked, first, last in (("bytes=100-199", 100, 200), ("bytes=-10", len(body) - 10, len(body)), ("bytes=7-", 7, len(body))):
        assert s3.get_object(Bucket=bucket, Key=name, Range=asked)["Body"].read() == body[first:last]
    assert s3.get_object_tagging(Bucket=bucket, Key=name)["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.put_object_tagging(Bucket=bucket, Key=name, Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert s3.head_object(Bucket=bucket, Key=name)["ETag"] == etag
    s3.copy_object(Bucket=bucket, Key="far/copy", CopySource={"Bucket": bucket, "Key": name})
    copied = s3.get_object(Bucket=bucket, Key="far/copy")
    assert (copied["Body"].read(), copied["ContentType"], copied["ETag"]) == (body, "image/x-test", etag)
    s3.put_object(Bucket=bucket, Key="far/copy", Body=b"")
    assert s3.get_object(Bucket=bucket, Key="far/copy")["Body"].read() == b""
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="far/")["Contents"]
    assert [(entry["Key"], entry["Size"], entry["ETag"]) for entry in listed][1] == (name, len(body), etag)
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in (name, "far/copy", "far/none")]})
    assert len(deleted["Deleted"]) == 3 and keys(s3, bucket) == []
    assert refusal(s3.get_object, Bucket=bucket, Key=name)[0] == 404


def test_uploads_in_parts(mounted):
    """Two parts, one of them sent again."""
    _, s3, bucket, _ = mounted
    parts = [os.urandom(5 * MIB), os.urandom(1000)]
    key = {"Bucket": bucket, "Key": "far/big"}
    upload = s3.create_multipart_upload(**key, ContentType="x/y")["UploadId"]
    sent = []
    for number, part in enumerate(parts, 1):
        if number == 2:
            s3.upload_part(**key, UploadId=upload, PartNumber=number, Body=b"x" * 100)
        etag = s3.upload_part(**key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
        sent.append({"PartNumber": number, "ETag": etag})
    assert keys(s3, bucket) == []
    done = s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": sent})
    got = s3.get_object(**key)
    assert (got["ETag"], got["ContentType"], done["ETag"].endswith('-2"')) == (done["ETag"], "x/y", True)
    assert hashlib.file_digest(io.BytesIO(got["Body"].read()), "md5").digest() == hashlib.md5(b"".join(parts)).digest()
    upload = s3.create_multipart_upload(**key)["UploadId"]
    s3.upload_part(**key, UploadId=upload, PartNumber=1, Body=b"given up")
    s3.abort_multipart_upload(**key, UploadId=upload)
    assert keys(s3, bucket) == ["far/big"]


def test_listings_are_in_the_order_of_s3(mounted):
    """Keys that directories sort otherwise, in pages of every size."""
    _, s3, bucket, _ = mounted
    names = ["a-b", "a.txt", "a/1", "a/2/x", "a/2/y", "a/3", "a0", "b", "é", "日/本", "z//y", "z/..", "z/."]
    due = sorted((f"far/{name}" for name in names), key=str.encode)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), due))
    for size in (1, 2, 5, 1000):
        assert keys(s3, bucket, PaginationConfig={"PageSize": size}) == due
    assert keys(s3, bucket, Prefix="far/a/") == ["far/a/1", "far/a/2/x", "far/a/2/y", "far/a/3"]
    assert keys(s3, bucket, StartAfter="far/a/2/x") == due[due.index("far/a/2/x") + 1 :]
    page = s3.list_objects_v2(Bucket=bucket, Prefix="far/", Delimiter="/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["far/a/", "far/z/", "far/日/"]
    for key in due:
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in due]})
    # Directories may be left; prefixes are not.
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Prefix="far/", Delimiter="/")


def test_keys_stay_below_the_root(mounted):
    """What would lead elsewhere is a name of its own, or is refused."""
    _, s3, bucket, place = mounted
    for name in ("../../escaped", "..", "x/../../../escaped", "/etc/x", "a//b", "dir/", "%!sluice/stage/x", "%", "a\\b", " a ", "n\nl"):
        key = f"far/{name}"
        s3.put_object(Bucket=bucket, Key=key, Body=name.encode())
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == name.encode()
        assert keys(s3, bucket) == [key]
        if place.root:
            assert all(place.root / bucket in found.parents for found in place.root.rglob("*escaped*"))
            assert not (place.root.parent / "escaped").exists() and not (place.root.parent.parent / "escaped").exists()
        s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key="far/one", Body=b"object")
    if place.root:
        # Where there are directories, an object and a directory of the same name are one too many.
        status, _ = refusal(s3.put_object, Bucket=bucket, Key="far/one/below", Body=b"x")
        assert 400 <= status < 500
        s3.put_object(Bucket=bucket, Key="far/two/below", Body=b"kept")
        assert 400 <= refusal(s3.put_object, Bucket=bucket, Key="far/two", Body=b"x")[0] < 500
        assert s3.get_object(Bucket=bucket, Key="far/two/below")["Body"].read() == b"kept"
        assert s3.get_object(Bucket=bucket, Key="far/one")["Body"].read() == b"object"
    else:
        s3.put_object(Bucket=bucket, Key="far/one/below", Body=b"x")
        assert keys(s3, bucket) == ["far/one", "far/one/below"]


@pytest.mark.parametrize("place", ["webdav", "sftp"], indirect=True)
def test_what_others_write(mounted):
    """An object that somebody else wrote or replaced is told of as it is, and not as it was."""
    _, s3, bucket, place = mounted
    s3.put_object(Bucket=bucket, Key="far/k", Body=b"ours", ContentType="x/ours")
    (place.root / bucket / "k").write_bytes(b"theirs now")
    (place.root / bucket / "new").write_bytes(b"new")
    until = time.monotonic() + 20
    while s3.head_object(Bucket=bucket, Key="far/k")["ContentLength"] != 10:
        assert time.monotonic() < until, "rclone remembers its directories for longer than it should"
        time.sleep(0.1)
    got = s3.get_object(Bucket=bucket, Key="far/k")
    assert got["Body"].read() == b"theirs now" and got["ContentType"] != "x/ours"
    assert got["ETag"] != f'"{hashlib.md5(b"ours").hexdigest()}"' and "-" in got["ETag"]


def test_conditions(mounted):
    """They are the service's, or refused."""
    _, s3, bucket, place = mounted
    key = {"Bucket": bucket, "Key": "far/race"}
    if place.settings["service"] != "azblob":
        assert refusal(s3.put_object, **key, Body=b"x", IfNoneMatch="*")[0] == 501
        assert keys(s3, bucket) == []
        return

    def put(n: int) -> int:
        try:
            s3.put_object(**key, Body=str(n).encode(), IfNoneMatch="*")
            return n
        except botocore.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error
            return -1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(put, range(8)) if n >= 0]
    got = s3.get_object(**key)
    assert len(winners) == 1 and got["Body"].read() == str(winners[0]).encode()
    assert refusal(s3.put_object, **key, Body=b"x", IfMatch='"0123"')[0] == 412
    replaced = s3.put_object(**key, Body=b"next", IfMatch=got["ETag"])
    assert refusal(s3.delete_object, **key, IfMatch=got["ETag"])[0] == 412
    s3.delete_object(**key, IfMatch=replaced["ETag"])
    assert keys(s3, bucket) == []


def test_http_is_read(local, request, tmp_path):
    """A web server as a bucket that can only be read."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "page.html").write_bytes(b"<p>hello</p>")
    bucket = bucket_name(request)
    s3 = boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            local.mount(bucket, "web/", "opendal", service="http", endpoint=f"http://127.0.0.1:{server.server_port}")
            got = s3.get_object(Bucket=bucket, Key="web/page.html")
            assert (got["Body"].read(), got["ContentType"]) == (b"<p>hello</p>", "text/html")
            assert refusal(s3.get_object, Bucket=bucket, Key="web/none")[0] == 404
            assert refusal(s3.put_object, Bucket=bucket, Key="web/x", Body=b"x")[0] == 501
            assert refusal(s3.list_objects_v2, Bucket=bucket, Prefix="web/")[0] == 501
        finally:
            local.command("mount", "rm", bucket, "web/")
            server.shutdown()


def test_what_cannot_be_mounted_says_why(local, request, webdav, tmp_path):
    """Bad settings and refused credentials."""
    bucket = bucket_name(request)
    boto3_client(local).create_bucket(Bucket=bucket)
    wrong = tmp_path / "wrong"
    wrong.write_text("password = wr0ng\n")

    def said(**settings: str) -> str:
        arguments = [part for pair in settings.items() for part in ("--set", "=".join(pair))]
        refused = local.command("mount", "add", bucket, "far/", "opendal", *arguments, check=False)
        assert refused.returncode != 0
        return refused.stdout + refused.stderr

    assert "credentials_file" in said(**webdav.settings, password="w0rd")
    assert "hdfs" in said(service="hdfs")
    text = said(**{**webdav.settings, "credentials_file": str(wrong)})
    assert "wr0ng" not in text and "wr0ng" not in local.log()
    described = local.command("provider", "describe", "opendal").stdout
    assert "credentials_file" in described and "WebDAV" in described


def test_an_unreachable_server_fails_its_own_mount(request, fresh, tmp_path):
    """The reason is in the health, other mounts go on, and the mount comes back with its server."""
    (root := tmp_path / "root").mkdir()
    (tmp_path / "credentials").write_text("password = w0rd\n")
    port = free_port()
    server: Gateway = fresh()
    s3 = boto3_client(server)
    bucket = bucket_name(request)
    s3.create_bucket(Bucket=bucket)
    settings = {"service": "webdav", "endpoint": f"http://127.0.0.1:{port}", "user": "me", "credentials_file": f"{tmp_path}/credentials"}
    with serving(webdav_command(root, port), port):
        server.mount(bucket, "far/", "opendal", **settings)
        s3.put_object(Bucket=bucket, Key="far/k", Body=b"far", ContentType="x/y")
    server.stop()
    server.start()
    assert refusal(s3.get_object, Bucket=bucket, Key="far/k")[0] == 503
    s3.put_object(Bucket=bucket, Key="near", Body=b"near")
    assert s3.get_object(Bucket=bucket, Key="near")["Body"].read() == b"near"
    _, health = server.admin_get("/health/ready")
    assert "far/" in health, health
    assert "Connection refused" in server.log()
    with serving(webdav_command(root, port), port):
        until = time.monotonic() + 30
        while True:
            try:
                got = s3.get_object(Bucket=bucket, Key="far/k")
                break
            except botocore.exceptions.ClientError:
                assert time.monotonic() < until
                time.sleep(0.2)
        assert (got["Body"].read(), got["ContentType"]) == (b"far", "x/y")


@pytest.mark.parametrize("place", ["webdav", "azblob"], indirect=True)
def test_a_large_object_takes_little_memory(request, place, fresh):
    """Up and down: the gateway grows by less than half of it, whose blocks on Azure take 8 MiB each."""
    server: Gateway = fresh()
    s3 = boto3_client(server)
    bucket = bucket_name(request)
    s3.create_bucket(Bucket=bucket)
    server.mount(bucket, "far/", "opendal", root=f"/{bucket}", **place.settings)
    block, count = os.urandom(MIB), 100 if place.root is None else 40
    s3.put_object(Bucket=bucket, Key="far/warm", Body=block * 9)
    before = server.memory()
    s3.put_object(Bucket=bucket, Key="far/large", Body=block * count)
    digest, got = hashlib.md5(), s3.get_object(Bucket=bucket, Key="far/large")
    for piece in got["Body"].iter_chunks(MIB):
        digest.update(piece)
    assert got["ContentLength"] == count * MIB and digest.hexdigest() == hashlib.md5(block * count).hexdigest()
    assert server.memory("VmHWM") - before < count * MIB // 2
