"""Tenants on two gateways over one store (E22), and the cache of their credentials (E17)."""

import pytest
from botocore.exceptions import ClientError
from conftest import MEMORY, boto3_client
from gateway import Gateway
from test_iam import SECRET, client

POLICIES = ["SluiceReadOnly", "SluiceReadWrite", "SluiceOperator", "SluiceAdmin"]


@pytest.fixture(scope="module")
def pair(environment, tmp_path_factory):
    """Two gateways on one store, whose buckets are directories that both see."""
    work = tmp_path_factory.mktemp("tenants")
    config = f'[default_mount]\nprovider = "local"\nroot = "{work}/buckets/{{bucket}}"\n[tokens]\nmaster_key_command = ["echo", "{"ab" * 32}"]\n'
    with Gateway(config, data_dir=work / "one", store=work / "shared.db") as one:
        with Gateway(config, data_dir=work / "two", store=work / "shared.db") as two:
            yield one, two


def account(gateway: Gateway, name: str) -> dict:
    """An account's own credentials."""
    gateway.create_key(name, name.upper() + "KEY", SECRET)
    return {"aws_access_key_id": name.upper() + "KEY", "aws_secret_access_key": SECRET}


def code(call, **arguments) -> str:
    """The error code of a call; empty when it is done."""
    try:
        call(**arguments)
        return ""
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.response["Error"]["Code"] if not error.response["Error"]["Code"].isdigit() else str(status)


def test_tenants_are_apart_on_every_gateway(pair):
    """Data, lists, upload ids and policies of one tenant are nothing to another, wherever it asks."""
    one, two = pair
    red, blue = account(one, "red"), account(two, "blue")
    s3 = client(one, "s3", red)
    s3.create_bucket(Bucket="red-data")
    s3.put_object(Bucket="red-data", Key="k", Body=b"red")
    upload = s3.create_multipart_upload(Bucket="red-data", Key="big")["UploadId"]
    assert client(two, "s3", red).get_object(Bucket="red-data", Key="k")["Body"].read() == b"red"
    for gateway in pair:
        other = client(gateway, "s3", blue)
        assert other.list_buckets()["Buckets"] == []
        for call, more in [
            (other.get_object, {"Key": "k"}),
            (other.put_object, {"Key": "k", "Body": b"blue"}),
            (other.delete_object, {"Key": "k"}),
            (other.list_objects_v2, {}),
            (other.list_multipart_uploads, {}),
            (other.list_parts, {"Key": "big", "UploadId": upload}),
            (other.upload_part, {"Key": "big", "UploadId": upload, "PartNumber": 1, "Body": b"x"}),
            (other.abort_multipart_upload, {"Key": "big", "UploadId": upload}),
            (other.get_bucket_policy, {}),
            (other.put_bucket_policy, {"Policy": "{}"}),
            (other.delete_bucket, {}),
        ]:
            assert code(call, Bucket="red-data", **more) == "AccessDenied", call
        assert code(other.head_bucket, Bucket="red-data") == "403"
        assert code(other.create_bucket, Bucket="red-data") == "BucketAlreadyExists"
        assert code(other.list_objects_v2, Bucket="no-such-bucket-at-all") == "NoSuchBucket"
        wrong = client(gateway, "s3", {**red, "aws_secret_access_key": "x" * 20})
        assert code(wrong.list_objects_v2, Bucket="red-data") == "SignatureDoesNotMatch"
        for name in ("UPPER", "a_b", "192.168.0.1"):
            invalid = boto3_client(gateway, *red.values(), parameter_validation=False)
            assert code(invalid.create_bucket, Bucket=name) == "InvalidBucketName", name
    assert client(two, "s3", red).get_object(Bucket="red-data", Key="k")["Body"].read() == b"red"


def test_the_roles_of_a_tenant(pair):
    """Read-only, read-write, operator and admin, each on both gateways, and none of them in another's account."""
    one, two = pair
    green, grey = account(one, "green"), account(one, "grey")
    owner = client(one, "s3", green)
    owner.create_bucket(Bucket="green-data")
    owner.put_object(Bucket="green-data", Key="k", Body=b"green")
    client(one, "s3", grey).create_bucket(Bucket="grey-data")
    client(one, "iam", grey).create_user(UserName="their")
    iam = client(one, "iam", green)
    allowed = {}
    for policy in POLICIES:
        name = policy.removeprefix("Sluice").lower()
        iam.create_user(UserName=name)
        iam.attach_user_policy(UserName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
        key = iam.create_access_key(UserName=name)["AccessKey"]
        person = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        for gateway in (one, two):
            s3, own = client(gateway, "s3", person), client(gateway, "iam", person)
            done = {
                "read": code(s3.get_object, Bucket="green-data", Key="k"),
                "list": code(s3.list_objects_v2, Bucket="green-data"),
                "write": code(s3.put_object, Bucket="green-data", Key=name, Body=b"x"),
                "delete": code(s3.delete_object, Bucket="green-data", Key=name),
                "configure": code(s3.put_bucket_versioning, Bucket="green-data", VersioningConfiguration={"Status": "Suspended"}),
                "people": code(own.list_users),
            }
            assert set(done.values()) <= {"", "AccessDenied", "NotImplemented", "InvalidRequest"}, done
            allowed.setdefault(name, set()).update(what for what, refusal in done.items() if refusal != "AccessDenied")
            # Nobody is anybody in another account.
            assert code(s3.list_objects_v2, Bucket="grey-data") == "AccessDenied"
            assert code(s3.put_object, Bucket="grey-data", Key="k", Body=b"x") == "AccessDenied"
            assert "their" not in str(own.list_users()["Users"] if name == "admin" else "")
            assert code(own.delete_user, UserName="their") in ("AccessDenied", "NoSuchEntity")
    assert allowed["readonly"] == {"read", "list"}
    assert allowed["readwrite"] == {"read", "list", "write", "delete"}
    assert allowed["operator"] >= {"configure"}
    assert allowed["admin"] == {"read", "list", "write", "delete", "configure", "people"}


def test_the_cache_of_credentials_is_bounded_and_counted(environment):
    """No more entries than there may be, and every lookup is a hit or a miss."""
    with Gateway(config=MEMORY + "[tokens]\ncache_capacity = 20\n") as gateway:
        for n in range(30):
            gateway.create_key("crowd", f"CROWD{n:03}", SECRET)
        counts = lambda: [gateway.metric(f"sluice_token_cache_{what}_total") for what in ("hits", "misses")]  # noqa: E731
        asked = [boto3_client(gateway, f"CROWD{n:03}", SECRET) for n in range(30)]
        before = counts()
        for one in asked:
            one.list_buckets()
        hits, misses = (after - then for after, then in zip(counts(), before))
        assert (misses, hits) == (30, 0), "each is read once, and not looked up again when it is known who it is"
        before = counts()
        asked[-1].list_buckets()
        hits, misses = (after - then for after, then in zip(counts(), before))
        assert (misses, hits) == (0, 1)
        deadline = 200
        while gateway.metric("sluice_token_cache_entries") > 20 and deadline:
            asked[-1].list_buckets()
            deadline -= 1
        assert gateway.metric("sluice_token_cache_entries") <= 20
