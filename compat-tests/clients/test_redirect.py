"""Mounts of a second gateway that send readers there: the setting `redirect` of the provider `s3`."""

import hashlib
import os
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, Tool, boto3_client, client_environment, mount_far, program
from gateway import Gateway
from wire import Wire

MIB = 1 << 20
REDIRECTS = "sluice_redirects_total"


class Stay(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *_arguments):
        return None


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request, as it is: status, headers, body."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay())
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


@pytest.fixture
def mounted(request, far, fresh, credentials):
    """A gateway and its bucket, at whose root the far bucket of the same name is mounted and read by links."""
    return mount_far(request, far, fresh, credentials, redirect="true", redirect_secs=str(getattr(request, "param", 60)))


def presigned(client, bucket: str, key: str, method: str = "get_object", **parameters: str) -> str:
    return client.generate_presigned_url(method, Params={"Bucket": bucket, "Key": key, **parameters}, ExpiresIn=300)


def test_curl_follows(mounted, far, tmp_path):
    """Whole and ranged, with the client's own signature in the query and in a header; the bytes come from there."""
    server, bucket = mounted
    near, there = boto3_client(server), boto3_client(far)
    body = os.urandom(3 * MIB)
    there.put_object(Bucket=bucket, Key="dir/ü +.bin", Body=body, ContentType="image/x-test")
    curl = Tool(program("curl"), env=client_environment(tmp_path, server), cwd=tmp_path)
    curl.command += ["--silent", "--show-error", "--fail", "--location", "--noproxy", "*", "--output", "got", "--write-out"]
    curl.command += ["%{num_redirects} %{http_code} %{content_type} %{url_effective}"]
    sent, count = server.metric("sluice_http_sent_bytes_total"), server.metric(REDIRECTS)
    link = presigned(near, bucket, "dir/ü +.bin")
    told = curl(link).stdout.decode()
    assert told.startswith("1 200 image/x-test ") and far.endpoint in told, told
    assert (tmp_path / "got").read_bytes() == body
    told = curl("--range", "100-199", link).stdout.decode()
    assert told.startswith("1 206 "), told
    assert (tmp_path / "got").read_bytes() == body[100:200]
    # Signed in a header, by a client that does not say who it is.
    there.put_object(Bucket=bucket, Key="plain", Body=body)
    for headers in {}, {"range": "bytes=100-199"}:
        answer = Wire(server.port, ACCESS_KEY, SECRET_KEY).send("GET", f"/{bucket}/plain", headers=headers)
        assert answer.status == 307
        assert curl(answer.headers["location"]).stdout.decode().startswith("0 200 ")
        assert (tmp_path / "got").read_bytes() == body
    assert server.metric(REDIRECTS) == count + 4
    assert server.metric("sluice_http_sent_bytes_total") - sent < MIB
    assert "X-Amz-Signature=" not in server.log()


def test_whoever_may_not_read_gets_no_link(mounted, far):
    """Rights and conditions are looked at first; a HEAD is answered here."""
    server, bucket = mounted
    near = boto3_client(server)
    put = boto3_client(far).put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    url = f"{server.endpoint}/{bucket}/k"
    status, headers, _ = fetch(url)
    assert status == 403 and "location" not in headers
    broken = presigned(near, bucket, "k")[:-1] + "_"
    status, headers, _ = fetch(broken)
    assert status == 403 and "location" not in headers
    link = presigned(near, bucket, "k")
    status, headers, body = fetch(link)
    assert (status, headers["cache-control"], body) == (307, "no-store", b"")
    assert headers["location"].startswith(f"{far.endpoint}/{bucket}/k?") and "X-Amz-Expires=60" in headers["location"]
    assert fetch(link, If_None_Match=put["ETag"])[0] == 304
    assert fetch(link, If_Match='"other"')[0] == 412
    assert fetch(link, If_Match=put["ETag"])[0] == 307
    assert fetch(link, Range="bytes=10-")[0] == 416
    assert fetch(presigned(near, bucket, "none"))[0] == 404
    status, headers, _ = fetch(presigned(near, bucket, "k", "head_object"), method="HEAD")
    assert (status, headers["content-length"]) == (200, "10")
    # What the client wants to see instead is shown there.
    link = presigned(near, bucket, "k", ResponseContentType="text/x-mine", ResponseContentDisposition='attachment; filename="a b"')
    status, headers, body = fetch(fetch(link)[1]["location"])
    assert (status, body, headers["content-type"]) == (200, b"0123456789", "text/x-mine")
    assert headers["content-disposition"] == 'attachment; filename="a b"'


def test_what_the_remote_does_not_know_is_streamed(mounted, far):
    """Encrypted objects, tags, metadata of uploads and checksums that are asked for: bytes through the gateway, as without links."""
    server, bucket = mounted
    near = boto3_client(server)
    body = os.urandom(100_000)
    near.put_object(Bucket=bucket, Key="plain", Body=body, ContentType="text/x-a", Metadata={"colour": "blue"})
    status, headers, _ = fetch(presigned(near, bucket, "plain"))
    assert status == 307
    status, headers, got = fetch(headers["location"])
    assert (status, headers["content-type"], headers["x-amz-meta-colour"], got) == (200, "text/x-a", "blue", body)
    status, headers, got = fetch(presigned(near, bucket, "plain", ChecksumMode="ENABLED"), x_amz_checksum_mode="ENABLED")
    assert status == 200 and headers["x-amz-checksum-crc32"] and got == body
    near.put_object(Bucket=bucket, Key="sealed", Body=body, ServerSideEncryption="AES256")
    near.put_object(Bucket=bucket, Key="tagged", Body=body, Tagging="a=b")
    for key in "sealed", "tagged":
        status, _, got = fetch(presigned(near, bucket, key))
        assert status == 200 and got == body, key
    assert boto3_client(far).get_object(Bucket=bucket, Key="sealed")["Body"].read() != body

    # An upload: the remote does not have its type, which the link says.
    part = os.urandom(5 * MIB)
    for key, metadata, wanted in ("parts", {}, 307), ("parts-meta", {"a": "b"}, 200):
        upload = near.create_multipart_upload(Bucket=bucket, Key=key, ContentType="text/x-parts", Metadata=metadata)["UploadId"]
        parts = []
        for number, data in (1, part), (2, b"end"):
            sent = near.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        near.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        status, headers, got = fetch(presigned(near, bucket, key))
        assert status == wanted, key
        if status == 307:
            status, headers, got = fetch(headers["location"])
        assert (status, headers["content-type"], got == part + b"end") == (200, "text/x-parts", True)
        assert headers["etag"] == near.head_object(Bucket=bucket, Key=key)["ETag"]


def test_boto3_and_aws_are_streamed_to(mounted, far, tmp_path):
    """They take a redirect for a wrong region: the gateway knows them, and they get the bytes from it."""
    server, bucket = mounted
    near = boto3_client(server)
    body = os.urandom(9 * MIB)
    boto3_client(far).put_object(Bucket=bucket, Key="k", Body=body)
    count = server.metric(REDIRECTS)
    assert near.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    assert near.get_object(Bucket=bucket, Key="k", Range="bytes=5-9")["Body"].read() == body[5:10]
    aws = Tool(sys.executable, "-m", "awscli", env=client_environment(tmp_path, server), cwd=tmp_path)
    aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/k", "down")
    assert hashlib.md5((tmp_path / "down").read_bytes()).digest() == hashlib.md5(body).digest()
    assert server.metric(REDIRECTS) == count
    # The link that aws makes is followed by whoever opens it.
    link = aws("s3", "presign", f"s3://{bucket}/k").stdout.decode().strip()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(link, timeout=60) as answer:
        assert answer.url.startswith(far.endpoint) and answer.read() == body
    assert server.metric(REDIRECTS) == count + 1


def test_gateways_behind_each_other(mounted, fresh, credentials, far):
    """A gateway that mounts one that sends readers elsewhere reads through it."""
    server, bucket = mounted
    boto3_client(far).put_object(Bucket=bucket, Key="in/k", Body=b"far")
    front = fresh()
    client = boto3_client(front)
    client.create_bucket(Bucket=bucket)
    settings = {"endpoint": server.endpoint, "bucket": bucket, "credentials_file": str(credentials), "profile": "far"}
    front.mount(bucket, "m/", "s3", prefix="in/", **settings)
    assert client.get_object(Bucket=bucket, Key="m/k")["Body"].read() == b"far"


@pytest.mark.parametrize("mounted", [1], indirect=True)
def test_a_link_ends(mounted, far):
    """After `redirect_secs` the remote refuses it; the gateway gives a new one."""
    server, bucket = mounted
    near = boto3_client(server)
    boto3_client(far).put_object(Bucket=bucket, Key="k", Body=b"far")
    link = fetch(presigned(near, bucket, "k"))[1]["location"]
    deadline = time.monotonic() + 60
    while fetch(link)[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    status, _, body = fetch(link)
    assert status == 403 and b"expired" in body
    changed = link.replace("X-Amz-Expires=1", "X-Amz-Expires=600")
    assert fetch(changed)[0] == 403
    assert fetch(presigned(near, bucket, "k"))[0] == 307
