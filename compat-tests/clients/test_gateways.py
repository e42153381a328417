"""E26: two gateways on one store and one set of mounts, with no stickiness: what one changes the other does, within a second."""

import concurrent.futures
import json
import os

import botocore.exceptions
import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from gateway import Gateway
from wire import Wire

MIB = 1 << 20
OPEN = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::shared/*"}],
}


@pytest.fixture
def pair(tmp_path):
    """Two gateways on one store, one folder of objects and one master key."""
    key = tmp_path / "keys"
    key.write_text("ab" * 32 + "\n")
    config = f"""
[tokens]
master_key_command = ["cat", "{key}"]
[default_mount]
root = "{tmp_path}/objects/{{bucket}}"
"""
    with Gateway(config, data_dir=tmp_path / "one", store=tmp_path / "shared.db") as one:
        with Gateway(config, data_dir=tmp_path / "two", store=tmp_path / "shared.db") as two:
            yield one, two


def test_changes_of_a_bucket_reach_the_other_gateway(pair, tmp_path, within_a_second):
    """Policies, mounts, settings and deletion, though the other has the bucket loaded."""
    one, two = pair
    ours, theirs = boto3_client(one), boto3_client(two)
    plain = Wire(two.port, ACCESS_KEY, SECRET_KEY)
    ours.create_bucket(Bucket="shared")
    ours.put_object(Bucket="shared", Key="k", Body=b"x")
    assert theirs.get_object(Bucket="shared", Key="k")["Body"].read() == b"x"
    assert plain.plain("GET", "/shared/k").status == 403
    ours.put_bucket_policy(Bucket="shared", Policy=json.dumps(OPEN))
    within_a_second(lambda: plain.plain("GET", "/shared/k").status == 200)
    ours.delete_bucket_policy(Bucket="shared")
    within_a_second(lambda: plain.plain("GET", "/shared/k").status == 403)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "file").write_bytes(b"was there")
    one.mount("shared", "more/", "local", root=str(tmp_path / "more"))
    within_a_second(lambda: plain.send("GET", "/shared/more/file").body == b"was there")
    one.command("mount", "rm", "shared", "more/")
    within_a_second(lambda: plain.send("GET", "/shared/more/file").status == 404)
    ours.delete_object(Bucket="shared", Key="k")
    ours.delete_bucket(Bucket="shared")
    within_a_second(lambda: plain.send("GET", "/shared").status == 404)
    theirs.create_bucket(Bucket="shared")
    within_a_second(lambda: Wire(one.port, ACCESS_KEY, SECRET_KEY).send("GET", "/shared").status == 200)


def test_an_upload_moves_between_gateways(pair):
    """Created at one, parts at both, completed at the other."""
    one, two = (boto3_client(server) for server in pair)
    one.create_bucket(Bucket="moves")
    upload = one.create_multipart_upload(Bucket="moves", Key="k")["UploadId"]
    body = os.urandom(11 * MIB)
    pieces = [body[: 5 * MIB], body[5 * MIB : 10 * MIB], body[10 * MIB :]]
    parts = []
    for number, (piece, client) in enumerate(zip(pieces, (two, one, two)), 1):
        etag = client.upload_part(Bucket="moves", Key="k", UploadId=upload, PartNumber=number, Body=piece)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    assert len(one.list_parts(Bucket="moves", Key="k", UploadId=upload)["Parts"]) == 3
    two.complete_multipart_upload(Bucket="moves", Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert one.get_object(Bucket="moves", Key="k")["Body"].read() == body


def test_conditions_hold_over_both(pair):
    """Of twenty that create the same key through either, one wins; a counter loses no step."""
    one, two = pair
    boto3_client(one).create_bucket(Bucket="races")

    def create(number: int) -> int:
        try:
            boto3_client(pair[number % 2]).put_object(Bucket="races", Key="k", Body=str(number).encode(), IfNoneMatch="*")
            return 1
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            return 0

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(create, range(20))) == 1


def test_each_says_which_it_is(pair):
    """In health, in every answer and in the log."""
    seen = set()
    for server in pair:
        name = json.loads(server.admin_get("/health/live")[1])["instance_id"]
        assert Wire(server.port, ACCESS_KEY, SECRET_KEY).send("GET", "/").header("x-sluice-instance") == name
        assert f'"instance_id":"{name}"' in server.log()
        seen.add(name)
    assert len(seen) == 2
