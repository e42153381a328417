"""A bucket against a dictionary: random operations, the same answers."""

import hashlib

import botocore.exceptions
import hypothesis
import hypothesis.stateful
import hypothesis.strategies as some
import pytest
from conftest import boto3_client
from names import AWKWARD_KEYS

# Few keys, so that they meet; each the prefix or the neighbour of another.
KEYS = some.sampled_from(["a", "a/", "a/b", "a/b/c", "a//b", "a-b", "a.b", "a0", "b", "/", "//", ".", "..", "a/../b", "é", "e\u0301", "Z" * 300])
BODIES = some.one_of(some.binary(max_size=50), some.sampled_from([b"", b"x" * 5000, b"y" * 70_000]))
METADATA = some.dictionaries(some.sampled_from(["colour", "mtime"]), some.text("abc 123", min_size=1).map(str.strip).filter(bool), max_size=2)


class Bucket(hypothesis.stateful.RuleBasedStateMachine):
    """Each rule does it twice: to the gateway, and to the dictionary."""

    s3 = None
    bucket = ""

    def __init__(self):
        super().__init__()
        self.model: dict[str, tuple[bytes, dict, str]] = {}
        while page := self.s3.list_objects_v2(Bucket=self.bucket).get("Contents"):
            self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": entry["Key"]} for entry in page]})
        self.upload: tuple[str, str, dict[int, tuple[bytes, str]]] | None = None

    def code(self, call, **arguments) -> str:
        try:
            call(Bucket=self.bucket, **arguments)
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    @hypothesis.stateful.rule(key=KEYS, body=BODIES, metadata=METADATA)
    def put(self, key, body, metadata):
        etag = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)["ETag"]
        assert etag == f'"{hashlib.md5(body).hexdigest()}"'
        self.model[key] = (body, metadata, etag)

    @hypothesis.stateful.rule(key=KEYS, body=BODIES)
    def create(self, key, body):
        expected = "PreconditionFailed" if key in self.model else ""
        assert self.code(self.s3.put_object, Key=key, Body=body, IfNoneMatch="*") == expected
        if not expected:
            self.model[key] = (body, {}, f'"{hashlib.md5(body).hexdigest()}"')

    @hypothesis.stateful.rule(key=KEYS, body=BODIES, right=some.booleans())
    def replace(self, key, body, right):
        held = self.model.get(key)
        etag = held[2] if held and right else '"another"'
        expected = "NoSuchKey" if not held else "" if right else "PreconditionFailed"
        assert self.code(self.s3.put_object, Key=key, Body=body, IfMatch=etag) == expected
        if not expected:
            self.model[key] = (body, {}, f'"{hashlib.md5(body).hexdigest()}"')

    @hypothesis.stateful.rule(key=KEYS)
    def get(self, key):
        if key not in self.model:
            assert self.code(self.s3.get_object, Key=key) == "NoSuchKey"
            assert self.code(self.s3.head_object, Key=key) == "404"
            return
        body, metadata, etag = self.model[key]
        got = self.s3.get_object(Bucket=self.bucket, Key=key)
        assert (got["Body"].read(), got["Metadata"], got["ETag"]) == (body, metadata, etag)
        head = self.s3.head_object(Bucket=self.bucket, Key=key)
        assert (head["ContentLength"], head["Metadata"], head["ETag"]) == (len(body), metadata, etag)

    @hypothesis.stateful.rule(key=KEYS, first=some.integers(0, 80), length=some.integers(1, 80))
    def get_range(self, key, first, length):
        if key not in self.model:
            return
        body = self.model[key][0]
        wanted = {"Key": key, "Range": f"bytes={first}-{first + length - 1}"}
        if first >= len(body):
            assert self.code(self.s3.get_object, **wanted) == "InvalidRange"
        else:
            assert self.s3.get_object(Bucket=self.bucket, **wanted)["Body"].read() == body[first : first + length]

    @hypothesis.stateful.rule(source=KEYS, to=KEYS, metadata=some.none() | METADATA)
    def copy(self, source, to, metadata):
        replaced = {} if metadata is None else {"MetadataDirective": "REPLACE", "Metadata": metadata}
        code = self.code(self.s3.copy_object, Key=to, CopySource={"Bucket": self.bucket, "Key": source}, **replaced)
        if source == to and metadata is None:
            # Nothing would change: refused, whether or not there is anything.
            assert code == "InvalidRequest" or (code == "NoSuchKey" and source not in self.model)
        elif source not in self.model:
            assert code == "NoSuchKey"
        else:
            assert code == ""
            body, held, _ = self.model[source]
            self.model[to] = (body, held if metadata is None else metadata, f'"{hashlib.md5(body).hexdigest()}"')

    @hypothesis.stateful.rule(key=KEYS)
    def delete(self, key):
        assert self.code(self.s3.delete_object, Key=key) == ""
        self.model.pop(key, None)

    @hypothesis.stateful.rule(keys=some.lists(KEYS, min_size=1, max_size=5, unique=True))
    def delete_many(self, keys):
        done = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys]})
        assert [entry["Key"] for entry in done["Deleted"]] == keys and "Errors" not in done
        for key in keys:
            self.model.pop(key, None)

    @hypothesis.stateful.rule(
        prefix=some.sampled_from(["", "a", "a/", "a//", "/", ".", "zzz"]),
        delimiter=some.sampled_from(["", "/", "b", "//"]),
        size=some.integers(1, 7),
        # None ends with a delimiter: such a marker is a common prefix and stands for all keys below it.
        after=some.sampled_from(["", "a", "a/a", "a/zzz", "Y"]),
        version=some.sampled_from([1, 2]),
    )
    def list(self, prefix, delimiter, size, after, version):
        expected = []
        for key in sorted(self.model, key=str.encode):
            if not key.startswith(prefix) or key.encode() <= after.encode():
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                rolled = prefix + rest[: rest.index(delimiter) + len(delimiter)]
                if ("prefix", rolled) not in expected:
                    expected.append(("prefix", rolled))
            else:
                expected.append(("key", key))
        found = []
        arguments = {"Bucket": self.bucket, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": size}
        marker, token = after, None
        for _ in range(len(self.model) + 2):
            if version == 2:
                extra = {"ContinuationToken": token} if token else {"StartAfter": after}
                page = self.s3.list_objects_v2(**arguments, **extra)
                assert page["KeyCount"] == len(page.get("Contents", [])) + len(page.get("CommonPrefixes", []))
                token = page.get("NextContinuationToken")
            else:
                page = self.s3.list_objects(**arguments, Marker=marker)
            entries = [("key", entry["Key"]) for entry in page.get("Contents", [])]
            entries += [("prefix", entry["Prefix"]) for entry in page.get("CommonPrefixes", [])]
            assert len(entries) <= size
            for entry in page.get("Contents", []):
                assert (entry["Size"], entry["ETag"]) == (len(self.model[entry["Key"]][0]), self.model[entry["Key"]][2])
            found += sorted(entries, key=lambda entry: entry[1].encode())
            if not page["IsTruncated"]:
                break
            marker = page.get("NextMarker") or entries[-1][1]
        assert found == expected

    @hypothesis.stateful.rule(key=KEYS)
    def begin_upload(self, key):
        if self.upload:
            assert self.code(self.s3.abort_multipart_upload, Key=self.upload[0], UploadId=self.upload[1]) == ""
        self.upload = (key, self.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"], {})

    @hypothesis.stateful.precondition(lambda self: self.upload)
    @hypothesis.stateful.rule(body=BODIES)
    def upload_part(self, body):
        key, upload_id, parts = self.upload
        part = self.s3.upload_part(Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=body)
        parts[1] = (body, part["ETag"])

    @hypothesis.stateful.precondition(lambda self: self.upload and self.upload[2])
    @hypothesis.stateful.rule()
    def complete(self):
        key, upload_id, parts = self.upload
        body, etag = parts[1]
        done = self.s3.complete_multipart_upload(
            Bucket=self.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )
        expected = f'"{hashlib.md5(hashlib.md5(body).digest()).hexdigest()}-1"'
        assert done["ETag"] == expected
        self.model[key] = (body, {}, expected)
        self.upload = None


def test_a_bucket_is_a_dictionary(server, s3, bucket):
    class Here(Bucket):
        pass

    Here.s3, Here.bucket = boto3_client(server), bucket
    hypothesis.stateful.run_state_machine_as_test(
        Here,
        settings=hypothesis.settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            database=None,
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("encoding", ["url", None])
def test_control_characters_in_keys(s3, wire, bucket, encoding):
    """A key with control characters is listed: url-encoded on request, and never as broken XML."""
    for key in ("tab\tkey", "new\nline", "bell\x07", "del\x7f", *AWKWARD_KEYS[:3]):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    query = {"list-type": "2"} | ({"encoding-type": "url"} if encoding else {})
    answer = wire.send("GET", f"/{bucket}", query=query)
    assert answer.status == 200, answer.body
    if encoding:
        assert b"<Key>bell%07</Key>" in answer.body and b"<EncodingType>url</EncodingType>" in answer.body
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "tab\tkey"}, {"Key": "new\nline"}]})
    assert s3.get_object(Bucket=bucket, Key="bell\x07")["Body"].read() == b"x"
