"""Versions of a second gateway through a mount of it: the setting `versions` of the provider `s3`."""

import os

import botocore.exceptions
import pytest
from conftest import boto3_client, bucket_name, mount_far

ENABLED, SUSPENDED = {"Status": "Enabled"}, {"Status": "Suspended"}


@pytest.fixture
def mounted(request, far, fresh, credentials):
    """boto3 on a gateway with a bucket with versioning, and on the gateway that it mounts; the name of both buckets; the first gateway."""
    server, bucket = mount_far(request, far, fresh, credentials, versions="true")
    near = boto3_client(server)
    near.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=ENABLED)
    return near, boto3_client(far), bucket, server


def refusal(call, **arguments) -> tuple[int, str, dict]:
    """Status, code and headers of the error that a call ends with."""
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call(**arguments)
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPHeaders"]


def listed(client, bucket: str, size: int = 1000, **arguments) -> list[tuple[str, str, bool, bool]]:
    """(key, version, is a marker, is the newest) of all versions: each page's versions and markers in the order of keys and age."""
    told = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size}, **arguments):
        for entry in page.get("Versions", []):
            told.append((entry["Key"], entry["VersionId"], False, entry["IsLatest"]))
        for entry in page.get("DeleteMarkers", []):
            told.append((entry["Key"], entry["VersionId"], True, entry["IsLatest"]))
    return told


def test_versions_are_those_of_the_remote(mounted):
    """Put twice, read each, delete, take the marker back, remove for good: through the mount, with the remote's ids."""
    near, there, bucket, _server = mounted
    bodies = [os.urandom(1000), os.urandom(70_000)]
    ids = [near.put_object(Bucket=bucket, Key="dir/ü +", Body=body)["VersionId"] for body in bodies]
    assert ids == [there.get_object(Bucket=bucket, Key="dir/ü +", VersionId=id_)["VersionId"] for id_ in ids]
    assert listed(near, bucket) == [("dir/ü +", ids[1], False, True), ("dir/ü +", ids[0], False, False)]
    for id_, body in zip(ids, bodies):
        got = near.get_object(Bucket=bucket, Key="dir/ü +", VersionId=id_)
        assert (got["VersionId"], got["Body"].read()) == (id_, body)
        assert near.head_object(Bucket=bucket, Key="dir/ü +", VersionId=id_)["ContentLength"] == len(body)
        ranged = near.get_object(Bucket=bucket, Key="dir/ü +", VersionId=id_, Range="bytes=10-19")
        assert ranged["Body"].read() == body[10:20]
    assert near.get_object(Bucket=bucket, Key="dir/ü +")["VersionId"] == ids[1]

    deleted = near.delete_object(Bucket=bucket, Key="dir/ü +")
    assert deleted["DeleteMarker"]
    marker = deleted["VersionId"]
    status, code, headers = refusal(near.get_object, Bucket=bucket, Key="dir/ü +")
    assert (status, code, headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == (404, "NoSuchKey", "true", marker)
    status, code, headers = refusal(near.get_object, Bucket=bucket, Key="dir/ü +", VersionId=marker)
    assert (status, code, headers["x-amz-delete-marker"]) == (405, "MethodNotAllowed", "true")
    assert sorted(listed(near, bucket)) == sorted(
        [("dir/ü +", marker, True, True), ("dir/ü +", ids[1], False, False), ("dir/ü +", ids[0], False, False)]
    )
    assert "Contents" not in near.list_objects_v2(Bucket=bucket)

    gone = near.delete_object(Bucket=bucket, Key="dir/ü +", VersionId=marker)
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker)
    assert near.get_object(Bucket=bucket, Key="dir/ü +")["Body"].read() == bodies[1]
    near.delete_object(Bucket=bucket, Key="dir/ü +", VersionId=ids[1])
    assert near.get_object(Bucket=bucket, Key="dir/ü +")["Body"].read() == bodies[0]
    assert refusal(near.get_object, Bucket=bucket, Key="dir/ü +", VersionId=ids[1])[:2] == (404, "NoSuchVersion")
    for nonsense in "v1", "8f3a9c1e-0b7d-4c52-9d6e-1a2b3c4d5e6f":
        assert refusal(near.get_object, Bucket=bucket, Key="dir/ü +", VersionId=nonsense)[:2] == (404, "NoSuchVersion")
    outcome = near.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "dir/ü +", "VersionId": ids[0]}, {"Key": "none"}]})
    assert len(outcome["Deleted"]) == 2
    assert [(key, marker) for key, _, marker, _ in listed(near, bucket)] == [("none", True)]


def test_copies_and_uploads_make_versions(mounted):
    """An older version is copied onto its key; an upload in parts, with a part that is copied from an older version."""
    near, there, bucket, _server = mounted
    first = near.put_object(Bucket=bucket, Key="k", Body=b"first", ContentType="text/one", Metadata={"n": "1"})["VersionId"]
    second = near.put_object(Bucket=bucket, Key="k", Body=b"second")["VersionId"]
    copied = near.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first})
    assert copied["CopySourceVersionId"] == first and copied["VersionId"] not in (first, second)
    got = near.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"first", "text/one", {"n": "1"})
    assert got["VersionId"] == copied["VersionId"]

    part = os.urandom(5 << 20)
    upload = near.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    at = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    etags = [near.upload_part(PartNumber=1, Body=part, **at)["ETag"]]
    source = {"Bucket": bucket, "Key": "k", "VersionId": second}
    etags.append(near.upload_part_copy(PartNumber=2, CopySource=source, **at)["CopyPartResult"]["ETag"])
    parts = [{"PartNumber": n + 1, "ETag": etag} for n, etag in enumerate(etags)]
    whole = near.complete_multipart_upload(MultipartUpload={"Parts": parts}, **at)["VersionId"]
    assert near.get_object(Bucket=bucket, Key="k", VersionId=whole)["Body"].read() == part + b"second"
    ids = [whole, copied["VersionId"], second, first]
    for client in near, there:
        assert [id_ for _, id_, _, _ in listed(client, bucket, Prefix="k")] == ids
    hidden = listed(there, bucket, Prefix=".sluice-s3/")
    assert hidden and all(key.startswith(".sluice-s3/r/") and not marker for key, _, marker, _ in hidden), hidden


def test_tags_belong_to_a_version(mounted):
    """They change without another version, of older ones too; what others wrote has none that could change."""
    near, there, bucket, _server = mounted
    old = near.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="a=1")["VersionId"]
    new = near.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    near.put_object_tagging(Bucket=bucket, Key="k", VersionId=old, Tagging={"TagSet": [{"Key": "b", "Value": "2"}]})
    near.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "c", "Value": "3"}]})
    tags = {id_: near.get_object_tagging(Bucket=bucket, Key="k", VersionId=id_)["TagSet"] for id_ in (old, new)}
    assert tags == {old: [{"Key": "b", "Value": "2"}], new: [{"Key": "c", "Value": "3"}]}
    assert [id_ for _, id_, _, _ in listed(there, bucket, Prefix="k")] == [new, old]
    attributes = near.get_object_attributes(Bucket=bucket, Key="k", VersionId=old, ObjectAttributes=["ObjectSize"])
    assert (attributes["ObjectSize"], attributes["VersionId"]) == (1, old)
    there.put_object(Bucket=bucket, Key="theirs", Body=b"far")
    tagging = {"TagSet": [{"Key": "a", "Value": "b"}]}
    assert refusal(near.put_object_tagging, Bucket=bucket, Key="theirs", Tagging=tagging)[:2] == (501, "NotImplemented")
    assert near.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"far"


def test_pages_of_versions(mounted):
    """Pages of any size follow the whole, and none shows what the mount hides at the remote."""
    near, _there, bucket, _server = mounted
    for n, key in enumerate(["a", "a/b", "a/c", "b", "b/x", "ü"]):
        for _ in range(1 + n % 3):
            near.put_object(Bucket=bucket, Key=key, Body=key.encode())
        if n % 2:
            near.delete_object(Bucket=bucket, Key=key)
    whole = listed(near, bucket)
    assert len(whole) == 15 and len({id_ for _, id_, _, _ in whole}) == 15
    for size in 1, 2, 3, 5, 14, 15:
        assert sorted(listed(near, bucket, size)) == sorted(whole), f"pages of {size}"
    below = sorted(entry for entry in whole if entry[0].startswith("a/"))
    assert sorted(listed(near, bucket, 2, Prefix="a/")) == below
    rolled = near.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [prefix["Prefix"] for prefix in rolled["CommonPrefixes"]] == ["a/", "b/"]
    assert {entry["Key"] for entry in rolled["Versions"] + rolled.get("DeleteMarkers", [])} == {"a", "b", "ü"}


def test_what_the_remote_cannot_do_is_refused(request, mounted, far, fresh, credentials):
    """Versioning that is suspended, locks, a remote without versioning: each with its reason, and nothing is changed."""
    near, _there, bucket, server = mounted
    suspended = refusal(near.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=SUSPENDED)
    assert suspended[:2] == (501, "NotImplemented")
    lock = {"ObjectLockEnabled": "Enabled"}
    assert refusal(near.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=lock)[:2] == (501, "NotImplemented")
    assert near.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"

    settings = {"endpoint": far.endpoint, "credentials_file": str(credentials), "profile": "far", "versions": "true"}
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    plain, locked = bucket_name(request), bucket_name(request)
    boto3_client(far).create_bucket(Bucket=plain)
    refused = server.command("mount", "add", bucket, "plain/", "s3", "--set", f"bucket={plain}", *pairs, check=False)
    assert refused.returncode != 0 and "not Enabled" in refused.stderr, refused.stderr
    near.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    refused = server.command("mount", "add", locked, "far/", "s3", "--set", f"bucket={bucket}", *pairs, check=False)
    assert refused.returncode != 0 and "Object Lock" in refused.stderr, refused.stderr

    # Without the setting there are no versions, as ever.
    server, bucket = mount_far(request, far, fresh, credentials)
    versioning = refusal(boto3_client(server).put_bucket_versioning, Bucket=bucket, VersioningConfiguration=ENABLED)
    assert versioning[:2] == (501, "NotImplemented")
