"""Encryption at rest with real clients: customers' keys, keys of a file, and keys of a service that speaks AWS KMS (moto)."""

import base64
import hashlib
import os
import pathlib
import socket
import subprocess
import sys
import time

import boto3
import botocore.exceptions
import gateway as gateway_module
import pytest
from conftest import MEMORY, boto3_client

KEY = bytes(range(32))
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
SOURCE = {"CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": KEY}
SEGMENT = 64 * 1024
MIB = 1024 * 1024


def content(size: int) -> bytes:
    """Bytes that differ everywhere."""
    return hashlib.shake_128(str(size).encode()).digest(size)


def ranges(size: int) -> list[tuple[int, int]]:
    """Ranges around the borders of segments, first and last byte."""
    borders = [0, SEGMENT, 2 * SEGMENT, size - 1]
    pairs = [(max(0, border - 3), min(size - 1, border + 3)) for border in borders]
    return [*pairs, (SEGMENT - 1, 2 * SEGMENT), (5, 5), (0, size - 1)]


def read_ranges(s3, bucket: str, key: str, whole: bytes, **how) -> None:
    """Every range is the slice."""
    for first, last in ranges(len(whole)):
        got = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{last}", **how)
        assert got["ContentRange"] == f"bytes {first}-{last}/{len(whole)}"
        assert got["ContentLength"] == last - first + 1
        assert got["Body"].read() == whole[first : last + 1]


def stored(server) -> bytes:
    """Everything that lies in the mounts of a gateway."""
    files = [path for path in pathlib.Path(server.data_dir).rglob("*") if path.is_file() and not path.name.startswith("sluice.db")]
    return b"".join(path.read_bytes() for path in files)


def upload(s3, bucket: str, key: str, parts: list[bytes], begin: dict, each: dict) -> None:
    """An upload in parts."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, **begin)["UploadId"]
    done = []
    for number, part in enumerate(parts, start=1):
        etag = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=part, **each)["ETag"]
        done.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": done})


def test_ranges_with_a_customers_key(s3, bucket, server):
    whole = content(3 * SEGMENT + 17)
    s3.put_object(Bucket=bucket, Key="k", Body=whole, ChecksumAlgorithm="SHA256", **CUSTOMER)
    read_ranges(s3, bucket, "k", whole, **CUSTOMER)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", **CUSTOMER)
    assert head["ContentLength"] == len(whole)
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(whole).digest()
    assert head["SSECustomerAlgorithm"] == "AES256" and "SSECustomerKeyMD5" in head
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == len(whole)
    for wrong, code, status in (({}, "InvalidRequest", 400), ({**CUSTOMER, "SSECustomerKey": bytes(32)}, "AccessDenied", 403)):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            s3.get_object(Bucket=bucket, Key="k", **wrong)
        assert refused.value.response["Error"]["Code"] == code
        with pytest.raises(botocore.exceptions.ClientError, match=str(status)):
            s3.head_object(Bucket=bucket, Key="k", **wrong)
    s3.copy_object(Bucket=bucket, Key="plain", CopySource={"Bucket": bucket, "Key": "k"}, **SOURCE)
    assert s3.get_object(Bucket=bucket, Key="plain")["Body"].read() == whole


def test_parts_with_a_customers_key(s3, bucket):
    parts = [content(5 * MIB), content(5 * MIB + 1), content(100)]
    upload(s3, bucket, "k", parts, CUSTOMER, CUSTOMER)
    whole = b"".join(parts)
    read_ranges(s3, bucket, "k", whole, **CUSTOMER)
    border = 5 * MIB
    got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={border - 10}-{2 * border + 50}", **CUSTOMER)
    assert got["Body"].read() == whole[border - 10 : 2 * border + 51]
    for number, part in enumerate(parts, start=1):
        assert s3.get_object(Bucket=bucket, Key="k", PartNumber=number, **CUSTOMER)["Body"].read() == part


def test_nothing_lies_in_the_clear(fresh):
    server = fresh()
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="clear")
    secret = b"a secret that nobody must find " * 5000
    s3.put_object(Bucket="clear", Key="c", Body=secret, **CUSTOMER)
    s3.put_object(Bucket="clear", Key="s", Body=secret, ServerSideEncryption="AES256")
    upload(s3, "clear", "m", [secret], {"ServerSideEncryption": "AES256"}, {})
    lies = stored(server)
    assert len(lies) > 3 * len(secret) and b"nobody must find" not in lies
    assert KEY not in lies and base64.b64encode(KEY) not in lies and KEY.hex().encode() not in lies
    assert KEY.hex() not in server.log() and base64.b64encode(KEY).decode() not in server.log()
    # What is changed on the mount is never served.
    path = next(path for path in pathlib.Path(server.data_dir).rglob("s") if path.is_file())
    changed = bytearray(path.read_bytes())
    changed[70_000] ^= 1
    times = path.stat()
    with open(path, "r+b") as file:
        file.write(changed)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.get_object(Bucket="clear", Key="s")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert s3.get_object(Bucket="clear", Key="s", Range="bytes=0-9")["Body"].read() == secret[:10]


@pytest.mark.parametrize("mount", ["local", "memory"])
def test_keys_of_a_file(fresh, tmp_path, mount):
    keyring = tmp_path / "keyring"
    keyring.write_text(f"reports {'4f' * 32}\n")
    keyring.chmod(0o600)
    config = f'[encryption]\nkeyring_file = "{keyring}"\ndefault_kms_key = "reports"\n'
    server = fresh(config=config + (MEMORY if mount == "memory" else ""))
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="keys")
    whole = content(3 * SEGMENT)
    put = s3.put_object(Bucket="keys", Key="k", Body=whole, ServerSideEncryption="aws:kms", SSEKMSEncryptionContext=base64.b64encode(b'{"a":"b"}').decode())
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "reports")
    read_ranges(s3, "keys", "k", whole)
    # The key rotates while the gateway runs: what the old one wrapped is read, and a new name is found.
    keyring.write_text(f"reports {'5f' * 32} {'4f' * 32}\nbackup {'6f' * 32}\n")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "backup"}, "BucketKeyEnabled": True}
    s3.put_bucket_encryption(Bucket="keys", ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.get_bucket_encryption(Bucket="keys")["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
    put = s3.put_object(Bucket="keys", Key="by default", Body=whole)
    assert (put["SSEKMSKeyId"], put["BucketKeyEnabled"]) == ("backup", True)
    for key in ("k", "by default"):
        assert s3.get_object(Bucket="keys", Key=key)["Body"].read() == whole
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.put_object(Bucket="keys", Key="x", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="nowhere")
    assert refused.value.response["Error"]["Code"] == "KMS.NotFoundException"


@pytest.fixture
def kms():
    """A key management service of moto's, and a client of it."""
    port = gateway_module.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, "moto did not start"
            time.sleep(0.1)
        endpoint = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "kms", "aws_secret_access_key": "secret"}
        yield endpoint, boto3.client("kms", endpoint_url=endpoint, region_name="us-east-1", **keys), process
    finally:
        process.terminate()
        process.wait()


def test_keys_of_a_service(fresh, kms):
    endpoint, client, process = kms
    arn = client.create_key()["KeyMetadata"]["Arn"]
    environment = {"SLUICE_KMS_ACCESS_KEY": "kms", "SLUICE_KMS_SECRET_KEY": "secret"}
    server = fresh(config=f'[encryption]\nkms_endpoint = "{endpoint}"\n', environment=environment)
    s3 = boto3_client(server)
    s3.create_bucket(Bucket="service")
    whole = content(3 * SEGMENT + 5)
    how = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": arn.rsplit("/", 1)[1]}
    put = s3.put_object(Bucket="service", Key="k", Body=whole, SSEKMSEncryptionContext=base64.b64encode(b'{"a":"b"}').decode(), **how)
    assert put["SSEKMSKeyId"] == arn
    read_ranges(s3, "service", "k", whole)
    s3.put_object(Bucket="service", Key="shared", Body=whole, BucketKeyEnabled=True, **how)
    upload(s3, "service", "parts", [content(5 * MIB), whole], how, {})
    assert s3.head_object(Bucket="service", Key="parts")["ContentLength"] == 5 * MIB + len(whole)
    server.stop()
    server.start()
    for key in ("k", "shared"):
        assert s3.get_object(Bucket="service", Key=key)["Body"].read() == whole
    assert s3.get_object(Bucket="service", Key="parts", PartNumber=2)["Body"].read() == whole
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.put_object(Bucket="service", Key="x", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/nowhere")
    assert refused.value.response["Error"]["Code"] == "KMS.NotFoundException"
    # Without the service its objects are unavailable (what was opened a moment ago is not), and others are as ever.
    process.terminate()
    process.wait()
    assert s3.get_object(Bucket="service", Key="k")["Body"].read() == whole
    server.stop()
    server.start()
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.get_object(Bucket="service", Key="k")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    s3.put_object(Bucket="service", Key="other", Body=b"x", ServerSideEncryption="AES256")
    assert s3.get_object(Bucket="service", Key="other")["Body"].read() == b"x"


def test_aws_command_line(aws, bucket, tmp_path):
    """cp up, down and across with a customer's key (in parts), the gateway's key, and the default of a bucket."""
    whole = content(9 * MIB)
    (tmp_path / "file").write_bytes(whole)
    (tmp_path / "key").write_bytes(KEY)
    customer = ("--sse-c", "AES256", "--sse-c-key", "fileb://key")
    aws("s3", "cp", "file", f"s3://{bucket}/c", *customer)
    assert aws("s3", "cp", f"s3://{bucket}/c", "none", check=False).returncode != 0
    aws("s3", "cp", f"s3://{bucket}/c", "back", *customer)
    assert (tmp_path / "back").read_bytes() == whole
    source = ("--sse-c-copy-source", "AES256", "--sse-c-copy-source-key", "fileb://key")
    aws("s3", "cp", f"s3://{bucket}/c", f"s3://{bucket}/s", *source, "--sse", "AES256")
    aws("s3", "cp", f"s3://{bucket}/s", "again")
    assert (tmp_path / "again").read_bytes() == whole
    rules = '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'
    aws("s3api", "put-bucket-encryption", "--bucket", bucket, "--server-side-encryption-configuration", rules)
    assert b"AES256" in aws("s3api", "put-object", "--bucket", bucket, "--key", "d", "--body", "key").stdout
    assert b"AES256" in aws("s3api", "get-bucket-encryption", "--bucket", bucket).stdout
    aws("s3api", "delete-bucket-encryption", "--bucket", bucket)
