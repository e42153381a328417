"""Signatures that do not match, and what is said about it; hosts behind a proxy; regions; clocks; Version 4A."""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import xml.etree.ElementTree
import zlib

import awscrt.auth
import awscrt.http
import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import pytest
from botocore.exceptions import ClientError
from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from conftest import MEMORY, boto3_client
from gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway

ROOT = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)


def signed(method: str, url: str, region: str = REGION, headers: dict | None = None, body: bytes = b"") -> dict:
    """The headers of a request that is signed for this URL."""
    request = botocore.awsrequest.AWSRequest(method, url, headers or {}, body)
    botocore.auth.S3SigV4Auth(ROOT, "s3", region).add_auth(request)
    return dict(request.headers)


def send(gateway: Gateway, method: str, path: str, headers: dict, body: bytes = b"") -> tuple[int, dict, str]:
    """Sends it as it is: status, headers and the elements of the error."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{gateway.port}", "Content-Length": str(len(body)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    error = {}
    if answer.status >= 400 and text:
        error = {element.tag: element.text or "" for element in xml.etree.ElementTree.fromstring(text)}
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, error


@pytest.fixture(scope="module")
def gateway(environment):
    """A gateway whose clients know it by another name."""
    config = MEMORY + '[s3]\npublic_hosts = ["s3.example.org", "files.example.org:8443"]\n'
    with Gateway(config=config) as one:
        boto3_client(one).create_bucket(Bucket="bucket")
        boto3_client(one).put_object(Bucket="bucket", Key="k", Body=b"x")
        yield one


def explained(gateway: Gateway, request_id: str) -> dict[str, str]:
    """What `sluice explain` tells."""
    told = json.loads(gateway.command("explain", request_id, "--json").stdout)
    return {fact["name"]: fact["value"] for fact in told["facts"]}


def hexed(text: str) -> str:
    return " ".join(f"{byte:02x}" for byte in text.encode())


def test_public_hosts_are_tried_in_order(gateway):
    """What was signed for a public name is let in behind a proxy that changes the name; another name is not."""
    for host in ("s3.example.org", "files.example.org:8443"):
        headers = signed("GET", f"http://{host}/bucket/k")
        assert send(gateway, "GET", "/bucket/k", headers)[0] == 200, host
        link = boto3.client(
            "s3", endpoint_url=f"http://{host}", region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        ).generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
        assert send(gateway, "GET", link.removeprefix(f"http://{host}"), {})[0] == 200
    headers = signed("GET", "http://other.example.org/bucket/k")
    status, _, error = send(gateway, "GET", "/bucket/k", headers)
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    # By its own name too.
    assert send(gateway, "GET", "/bucket/k", signed("GET", f"{gateway.endpoint}/bucket/k"))[0] == 200


def test_a_public_host_lets_nobody_in_by_itself(gateway):
    """A wrong secret stays wrong for every host."""
    stranger = botocore.credentials.Credentials(ACCESS_KEY, "x" * 40)
    request = botocore.awsrequest.AWSRequest("GET", "http://s3.example.org/bucket/k", {}, b"")
    botocore.auth.S3SigV4Auth(stranger, "s3", REGION).add_auth(request)
    status, headers, error = send(gateway, "GET", "/bucket/k", dict(request.headers))
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    facts = explained(gateway, headers["x-amz-request-id"])
    assert "differs" in facts and facts["differs"].startswith("nothing")


def test_the_answer_shows_what_was_signed(gateway):
    """As AWS shows it, and never the signature that would have been right."""
    headers = signed("GET", f"{gateway.endpoint}/bucket/k")
    right = headers["Authorization"].rpartition("=")[2]
    wrong = "0" * 64
    headers["Authorization"] = headers["Authorization"].replace(right, wrong)
    status, answered, error = send(gateway, "GET", "/bucket/k", headers)
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    assert error["AWSAccessKeyId"] == ACCESS_KEY and error["SignatureProvided"] == wrong
    canonical = error["CanonicalRequest"]
    assert canonical.startswith("GET\n/bucket/k\n\nhost:") and canonical.endswith(headers["X-Amz-Content-SHA256"])
    assert error["StringToSign"].startswith("AWS4-HMAC-SHA256\n" + headers["X-Amz-Date"])
    assert error["CanonicalRequestBytes"] == hexed(canonical)
    assert error["StringToSignBytes"] == hexed(error["StringToSign"])
    told = json.dumps(error) + gateway.log() + json.dumps(explained(gateway, answered["x-amz-request-id"]))
    assert right not in told and SECRET_KEY not in told
    assert gateway.command("explain", "NOSUCHREQUEST", check=False).returncode == 1


@pytest.fixture(scope="module")
def domain(environment):
    """A gateway with a domain, and no public hosts."""
    with Gateway(config=MEMORY + '[s3]\ndomains = ["s3.example.org"]\n') as one:
        yield one


@pytest.mark.parametrize(
    ("field", "signed_as", "sent_as"),
    [
        ("host", ("GET", "http://s3.example.org/bucket/k", {}), ("/bucket/k", {})),
        ("port", ("GET", "http://127.0.0.1/bucket/k", {}), ("/bucket/k", {})),
        ("path", ("GET", "/bucket/k", {}), ("/bucket//k", {})),
        ("path", ("GET", "/bucket/k/", {}), ("/bucket/k", {})),
        ("path", ("GET", "/k", {}), ("/bucket/k", {})),
        ("path", ("GET", "/bucket/a+b", {}), ("/bucket/a%20b", {})),
        ("method", ("HEAD", "/bucket/k", {}), ("/bucket/k", {})),
        ("accept-encoding", ("GET", "/bucket/k", {"Accept-Encoding": "identity"}), ("/bucket/k", {"Accept-Encoding": "gzip, br"})),
    ],
)
def test_the_field_that_differs_is_named(domain, field, signed_as, sent_as):
    """In the answer, in the log, and by `sluice explain`."""
    (method, url, headers), (path, changed) = signed_as, sent_as
    request = botocore.awsrequest.AWSRequest(method, url if url.startswith("http") else domain.endpoint + url, headers, b"")
    signer = botocore.auth.S3SigV4Auth(ROOT, "s3", REGION)
    signer.headers_to_sign = lambda request: signing(request, headers)
    signer.add_auth(request)
    status, answered, error = send(domain, "GET", path, {**dict(request.headers), **changed})
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    assert f"valid for another {field}" in error["Message"], error["Message"]
    facts = explained(domain, answered["x-amz-request-id"])
    assert facts["differs"] == field and facts["what to do"]
    assert f"another {field}" in domain.log()


def signing(request, named: dict):
    """The headers that are signed: what botocore signs, and those that are named."""
    headers = http.client.HTTPMessage()
    headers["host"] = botocore.auth._host_from_url(request.url)
    for name, value in request.headers.items():
        if name.lower().startswith("x-amz-") or name in named:
            headers[name.lower()] = value
    return headers


def test_wrong_region_and_wrong_clock(environment):
    """Each has its own message, with the right region, and with both clocks."""
    with Gateway(config=MEMORY + '[s3]\nregion = "eu-west-1"\ncheck_region = true\n') as gateway:
        status, answered, error = send(gateway, "GET", "/", signed("GET", f"{gateway.endpoint}/", region="us-east-1"))
        assert (status, error["Code"], error["Region"]) == (400, "AuthorizationHeaderMalformed", "eu-west-1")
        assert explained(gateway, answered["x-amz-request-id"])["region"] == "us-east-1"
        assert send(gateway, "GET", "/", signed("GET", f"{gateway.endpoint}/", region="eu-west-1"))[0] == 200
        link = boto3_client(gateway, signature_version="s3v4").generate_presigned_url("list_buckets")
        status, _, error = send(gateway, "GET", link.removeprefix(gateway.endpoint), {})
        assert (status, error["Code"], error["Region"]) == (400, "AuthorizationQueryParametersError", "eu-west-1")
        headers = signed("GET", f"{gateway.endpoint}/", region="eu-west-1")
        late = {**headers, "X-Amz-Date": "20200101T000000Z"}
        late["Authorization"] = late["Authorization"].replace(headers["X-Amz-Date"][:8], "20200101")
        status, answered, error = send(gateway, "GET", "/", late)
        assert (status, error["Code"], error["RequestTime"]) == (403, "RequestTimeTooSkewed", "20200101T000000Z")
        assert error["ServerTime"] and explained(gateway, answered["x-amz-request-id"])["clock of the gateway"]


def v4a(gateway: Gateway, **credentials):
    """A client that signs with Version 4A."""
    given = credentials or {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    config = botocore.config.Config(signature_version="s3v4a", s3={"addressing_style": "path"}, retries={"max_attempts": 1, "mode": "standard"})
    return boto3.client("s3", endpoint_url=gateway.endpoint, region_name=REGION, config=config, **given)


def test_version_4a(gateway):
    """botocore with the CRT signs so: requests with and without a body, and links."""
    s3 = v4a(gateway)
    s3.put_object(Bucket="bucket", Key="a b/ü+", Body=b"4a" * 1000)
    assert s3.get_object(Bucket="bucket", Key="a b/ü+")["Body"].read() == b"4a" * 1000
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket", Prefix="a b")["Contents"]] == ["a b/ü+"]
    link = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    assert "AWS4-ECDSA-P256-SHA256" in link
    assert send(gateway, "GET", link.removeprefix(gateway.endpoint), {})[0] == 200
    assert send(gateway, "GET", link.removeprefix(gateway.endpoint).replace("/k?", "/other?"), {})[0] == 403
    with pytest.raises(ClientError) as refused:
        v4a(gateway, aws_access_key_id=ACCESS_KEY, aws_secret_access_key="y" * 40).list_buckets()
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    with pytest.raises(ClientError) as refused:
        v4a(gateway, aws_access_key_id="NOSUCHKEY", aws_secret_access_key="y" * 40).list_buckets()
    assert refused.value.response["Error"]["Code"] == "InvalidAccessKeyId"


class ChunksOfVersion4A:
    """A body in chunks that are signed with Version 4A. The head is signed by the CRT, the chunks here."""

    ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    MODE = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"

    def __init__(self, gateway: Gateway, path: str, size: int, trailer: str | None = None):
        given = awscrt.auth.AwsCredentialsProvider.new_static(ACCESS_KEY, SECRET_KEY)
        mode = self.MODE + ("-TRAILER" if trailer else "")
        fields = [("host", f"127.0.0.1:{gateway.port}"), ("x-amz-decoded-content-length", str(size)), ("content-encoding", "aws-chunked")]
        fields += [("x-amz-trailer", trailer)] if trailer else []
        request = awscrt.http.HttpRequest("PUT", path, awscrt.http.HttpHeaders(fields))
        self.date = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        config = awscrt.auth.AwsSigningConfig(
            algorithm=awscrt.auth.AwsSigningAlgorithm.V4_ASYMMETRIC, signature_type=awscrt.auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=given, region=REGION, service="s3", date=self.date, use_double_uri_encode=False, should_normalize_uri_path=False,
            signed_body_value=mode, signed_body_header_type=awscrt.auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        awscrt.auth.aws_sign_request(request, config).result(30)
        self.headers = {name: value for name, value in request.headers if name != "host"}
        self.before = self.headers["Authorization"].rpartition("Signature=")[2]
        for counter in range(1, 255):
            context = b"AWS4-ECDSA-P256-SHA256\0" + ACCESS_KEY.encode() + bytes([counter]) + (256).to_bytes(4, "big")
            derived = hmac.new(b"AWS4A" + SECRET_KEY.encode(), (1).to_bytes(4, "big") + context, hashlib.sha256).digest()
            number = int.from_bytes(derived, "big") + 1
            if number < self.ORDER:
                break
        self.key = ECC.construct(curve="P-256", d=number)

    def _signature(self, kind: str, *digests: str) -> str:
        scope = f"{self.date:%Y%m%d}/s3/aws4_request"
        text = "\n".join((f"AWS4-ECDSA-P256-SHA256-{kind}", f"{self.date:%Y%m%dT%H%M%SZ}", scope, self.before, *digests))
        self.before = DSS.new(self.key, "fips-186-3", encoding="der").sign(SHA256.new(text.encode())).hex()
        return self.before.ljust(144, "*")

    def chunk(self, data: bytes) -> bytes:
        signature = self._signature("PAYLOAD", hashlib.sha256(b"").hexdigest(), hashlib.sha256(data).hexdigest())
        return f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + (b"\r\n" if data else b"")

    def trailer(self, text: str) -> bytes:
        return f"{text}\r\nx-amz-trailer-signature:{self._signature('TRAILER', hashlib.sha256((text + chr(10)).encode()).hexdigest())}\r\n\r\n".encode()


def test_version_4a_in_chunks(gateway):
    """Chunk by chunk, with trailers and without; what is changed on the way is not kept."""
    data = os.urandom(3 * 65_536 + 5)
    parts = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]

    def put(key: str, trailer: str | None = None, change=lambda body: body) -> tuple[int, dict]:
        chunks = ChunksOfVersion4A(gateway, f"/bucket/{key}", len(data), trailer and trailer.partition(":")[0])
        body = b"".join([chunks.chunk(part) for part in parts] + [chunks.chunk(b""), chunks.trailer(trailer) if trailer else b"\r\n"])
        body = change(body)
        status, _, error = send(gateway, "PUT", f"/bucket/{key}", {**chunks.headers, "Content-Length": str(len(body))}, body)
        return status, error

    s3 = boto3_client(gateway)
    crc = "x-amz-checksum-crc32:" + base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    for number, trailer in enumerate((None, crc)):
        assert put(f"chunks-{number}", trailer)[0] == 200
        answer = s3.get_object(Bucket="bucket", Key=f"chunks-{number}")
        assert answer["Body"].read() == data and "aws-chunked" not in answer.get("ContentEncoding", "")
        status, error = put("changed", trailer, lambda body: body.replace(data[-5:], b"other"))
        assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    wrong = "x-amz-checksum-crc32:" + base64.b64encode(b"abcd").decode()
    status, error = put("changed", wrong)
    assert (status, error["Code"]) == (400, "BadDigest")
    status, error = put("changed", crc, lambda body: body.replace(crc.encode(), wrong.encode()))
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket", Prefix="changed")


def test_version_2_shows_its_string_to_sign(gateway):
    """The old links too."""
    link = boto3_client(gateway, signature_version="s3").generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    target = link.removeprefix(gateway.endpoint).replace("/k?", "/other?")
    status, _, error = send(gateway, "GET", target, {})
    assert (status, error["Code"]) == (403, "SignatureDoesNotMatch")
    assert error["StringToSign"].endswith("/bucket/other") and error["StringToSignBytes"] == hexed(error["StringToSign"])


def test_version_2_links_of_a_session(gateway):
    """The token is in the query, and was signed as a header."""
    sts = boto3.client("sts", endpoint_url=gateway.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY)
    given = sts.get_session_token()["Credentials"]
    session = boto3.client(
        "s3", endpoint_url=gateway.endpoint, region_name=REGION, config=botocore.config.Config(signature_version="s3", s3={"addressing_style": "path"}),
        aws_access_key_id=given["AccessKeyId"], aws_secret_access_key=given["SecretAccessKey"], aws_session_token=given["SessionToken"],
    )
    link = session.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"}).removeprefix(gateway.endpoint)
    assert "Signature=" in link and "x-amz-security-token=" in link
    assert send(gateway, "GET", link, {})[0] == 200
    assert send(gateway, "GET", link.replace(given["SessionToken"][:8], "A" * 8), {})[0] == 403
