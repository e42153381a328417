"""E28: presigned URLs, opened as a stranger would."""

import datetime

import botocore.exceptions
import pytest
import sigv4
from conftest import ACCESS_KEY, REGION, SECRET_KEY, Tool, boto3_client, client_environment, program
from wire import Wire

BODY = b"presigned" * 1000


@pytest.fixture
def link(wire, s3, bucket):
    """Presigns for the key `k`, which exists."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, ContentType="text/x-stored")

    def make(method: str, **options) -> str:
        return wire.signer.presign(method, wire.host, f"/{bucket}/{options.pop('key', 'k')}", **options)

    return make


def ago(seconds: int) -> datetime.datetime:
    return sigv4.now() - datetime.timedelta(seconds=seconds)


def test_get_put_head_delete(wire, link, s3, bucket):
    answer = wire.plain("GET", link("GET"))
    assert answer.status == 200 and answer.body == BODY
    assert wire.plain("HEAD", link("HEAD")).header("content-length") == str(len(BODY))
    put = wire.plain("PUT", link("PUT", key="new +%C3%BC".replace(" ", "%20").replace("+", "%2B")), b"new")
    assert put.status == 200, put.body
    assert s3.get_object(Bucket=bucket, Key="new +ü")["Body"].read() == b"new"
    assert wire.plain("DELETE", link("DELETE")).status == 204
    wire.plain("GET", link("GET")).is_error(404, "NoSuchKey", f"/{bucket}/k")


def test_with_curl(server, link, bucket, tmp_path):
    curl = Tool(program("curl"), env=client_environment(tmp_path, server), cwd=tmp_path)
    (tmp_path / "in").write_bytes(b"by curl")
    curl("-sS", "--fail", "-T", "in", server.endpoint + link("PUT", key="curl"))
    assert curl("-sS", "--fail", server.endpoint + link("GET", key="curl")).stdout == b"by curl"
    assert curl("-sS", "--fail", "-r", "3-6", server.endpoint + link("GET", key="curl")).stdout == b"curl"


def test_by_boto3_with_signature_version_2(server, s3, bucket):
    """What boto3 and aws-cli make for a URL unless they are told otherwise."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    old = boto3_client(server, signature_version="s3")
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)

    def path(operation: str, **params) -> str:
        url = old.generate_presigned_url(operation, Params={"Bucket": bucket, **params})
        assert "Signature=" in url and "X-Amz" not in url
        return url.removeprefix(server.endpoint)

    assert wire.plain("GET", path("get_object", Key="k")).body == b"hello"
    assert wire.plain("GET", path("list_objects_v2")).status == 200
    assert wire.plain("PUT", path("put_object", Key="new"), b"new").status == 200
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"new"
    wire.plain("PUT", path("get_object", Key="k"), b"x").is_error(403, "SignatureDoesNotMatch", f"/{bucket}/k")
    wire.plain("GET", path("get_object", Key="k") + "&attributes").is_error(403, "AccessDenied", f"/{bucket}/k")


def test_the_old_signature_in_links_only(server, s3, bucket):
    """A client that was told nothing about signatures presigns with version 2: the link opens, and ends. In a header it is refused."""
    s3.put_object(Bucket=bucket, Key="dir/ü +.txt", Body=BODY)
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    where = {"Bucket": bucket, "Key": "dir/ü +.txt"}
    url = s3.generate_presigned_url("get_object", Params=where)
    assert "Signature=" in url and "X-Amz" not in url
    assert wire.plain("GET", url.removeprefix(server.endpoint)).body == BODY
    expired = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=-5)
    wire.plain("GET", expired.removeprefix(server.endpoint)).is_error(403, "AccessDenied")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        boto3_client(server, signature_version="s3").get_object(**where)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def test_range(wire, link):
    answer = wire.plain("GET", link("GET"), headers={"range": "bytes=2-5"})
    assert answer.status == 206 and answer.body == BODY[2:6]


def test_response_overrides(wire, link):
    overrides = {
        "response-content-type": "text/x-override",
        "response-content-disposition": 'attachment; filename="ü.txt"',
        "response-content-language": "de",
        "response-content-encoding": "identity",
        "response-cache-control": "no-store",
        "response-expires": "Thu, 01 Jan 2099 00:00:00 GMT",
    }
    for method in ("GET", "HEAD"):
        answer = wire.plain(method, link(method, query=overrides))
        assert answer.status == 200, answer.body
        for name, value in overrides.items():
            got = answer.header(name.removeprefix("response-"))
            assert got.encode("latin-1").decode("utf-8", "replace") == value, (method, name, got)
    assert wire.plain("GET", link("GET")).header("content-type") == "text/x-stored"


def test_expiry(wire, link, bucket):
    assert wire.plain("GET", link("GET", expires=60, when=ago(50))).status == 200
    expired = wire.plain("GET", link("GET", expires=60, when=ago(62)))
    expired.is_error(403, "AccessDenied", f"/{bucket}/k")
    assert "expired" in expired.error["Message"]


def test_seven_days_at_most(wire, link):
    assert wire.plain("GET", link("GET", expires=604800)).status == 200
    wire.plain("GET", link("GET", expires=-1)).is_error(403, "AccessDenied")
    for expires in (604801, "soon", ""):
        wire.plain("GET", link("GET", expires=expires)).is_error(400, "AuthorizationQueryParametersError")


def test_from_the_future(wire, link):
    """A clock 10 minutes ahead is forgiven, one hours ahead is not."""
    assert wire.plain("GET", link("GET", when=ago(-600))).status == 200
    assert wire.plain("GET", link("GET", when=ago(-7200))).status == 403


def test_tampering(wire, link, bucket):
    good = link("GET")
    wire.plain("PUT", good, b"x").is_error(403, "SignatureDoesNotMatch", f"/{bucket}/k")
    wire.plain("GET", good.replace(f"/{bucket}/k", f"/{bucket}/other")).is_error(403, "SignatureDoesNotMatch")
    wire.plain("GET", good + "&response-content-type=x").is_error(403, "SignatureDoesNotMatch")
    wire.plain("GET", good[:-1] + ("0" if good[-1] != "0" else "1")).is_error(403, "SignatureDoesNotMatch")
    missing = good.replace("X-Amz-Signature", "X-Amz-Nothing")
    assert wire.plain("GET", missing).status in (400, 403)
    stranger = sigv4.Signer("NOBODYNOBODYNOBODY01", SECRET_KEY).presign("GET", wire.host, f"/{bucket}/k")
    wire.plain("GET", stranger).is_error(403, "InvalidAccessKeyId", f"/{bucket}/k")


def test_unsigned_amz_headers_are_refused(wire, link, s3, bucket):
    """A presigned PUT must not become a copy of what its holder may not read."""
    s3.put_object(Bucket=bucket, Key="secret", Body=b"secret")
    answer = wire.plain("PUT", link("PUT", key="loot"), headers={"x-amz-copy-source": f"/{bucket}/secret"})
    answer.is_error(403, "AccessDenied")
    assert "loot" not in [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]


def test_the_host_must_be_signed(wire, bucket, s3):
    """A signature that leaves out the host could be replayed elsewhere."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = wire.send("GET", f"/{bucket}/k", unsigned=("host",))
    assert answer.status == 403, (answer.status, answer.body)


def test_signed_headers_must_come(wire, link, s3, bucket):
    """A signed Content-Type binds the sender."""
    target = link("PUT", key="typed", headers={"content-type": "text/plain"})
    wire.plain("PUT", target, b"x", headers={"content-type": "text/html"}).is_error(403, "SignatureDoesNotMatch")
    assert wire.plain("PUT", target, b"x", headers={"content-type": "text/plain"}).status == 200
    assert s3.head_object(Bucket=bucket, Key="typed")["ContentType"] == "text/plain"


def test_multipart_by_links(wire, link, s3, bucket):
    """A browser uploads parts by presigned links."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    answer = wire.plain("PUT", link("PUT", key="parts", query={"uploadId": upload, "partNumber": "1"}), b"only part")
    assert answer.status == 200
    part = {"PartNumber": 1, "ETag": answer.header("etag")}
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": [part]})
    assert wire.plain("GET", link("GET", key="parts")).body == b"only part"


def test_any_region_signs(server, s3, bucket):
    """A client set up for another region still gets in."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    elsewhere = Wire(server.port, ACCESS_KEY, SECRET_KEY, region="eu-somewhere-9")
    assert elsewhere.send("GET", f"/{bucket}/k").body == BODY
    assert REGION == "us-east-1"


# POST policy


def form(fields: dict[str, str], content: bytes, name: str = "file.txt") -> tuple[bytes, dict[str, str]]:
    boundary = "----boundary7391"
    body = b""
    for field, value in fields.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    body += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode()
    body += b"Content-Type: text/x-part\r\n\r\n" + content + f"\r\n--{boundary}--\r\n".encode()
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


def policy(bucket: str, *conditions, seconds: int = 600) -> dict:
    expires = (sigv4.now() + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"expiration": expires, "conditions": [{"bucket": bucket}, ["starts-with", "$key", "up/"], *conditions]}


def post(wire, bucket, document, content, extra=None, name="file.txt"):
    fields = {"key": "up/${filename}", **(extra or {}), **wire.signer.post_policy(document)}
    body, headers = form(fields, content, name)
    return wire.plain("POST", f"/{bucket}", body, headers)


def test_post_policy(wire, s3, bucket):
    allowed = policy(bucket, {"success_action_status": "201"}, ["content-length-range", 1, 100])
    answer = post(wire, bucket, allowed, b"posted", {"success_action_status": "201"}, name="ü.txt")
    assert answer.status == 201, answer.body
    assert b"<Key>up/" in answer.body and b"<ETag>" in answer.body
    assert s3.get_object(Bucket=bucket, Key="up/ü.txt")["Body"].read() == b"posted"
    assert post(wire, bucket, policy(bucket), b"posted").status == 204


def test_post_policy_broken(wire, s3, bucket):
    s3.put_object(Bucket=bucket, Key="up/file.txt", Body=b"old")
    sized = policy(bucket, ["content-length-range", 1, 5])
    post(wire, bucket, sized, b"too long").is_error(400, "EntityTooLarge")
    post(wire, bucket, sized, b"").is_error(400, "EntityTooSmall")
    post(wire, bucket, policy(bucket, seconds=-5), b"late").is_error(403, "AccessDenied")
    post(wire, bucket, policy("another-bucket"), b"x").is_error(403, "AccessDenied")
    post(wire, bucket, policy(bucket, {"acl": "private"}), b"x").is_error(403, "AccessDenied")
    post(wire, bucket, policy(bucket), b"x", {"x-amz-meta-not": "allowed"}).is_error(403, "AccessDenied")
    fields = {"key": "up/file.txt", **wire.signer.post_policy(policy(bucket))}
    fields["x-amz-signature"] = "0" * 64
    body, headers = form(fields, b"forged")
    wire.plain("POST", f"/{bucket}", body, headers).is_error(403, "SignatureDoesNotMatch")
    assert s3.get_object(Bucket=bucket, Key="up/file.txt")["Body"].read() == b"old"
