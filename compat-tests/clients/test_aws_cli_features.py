"""What a bucket can remember, feature by feature, with the aws command line (of this Python environment, which is the current one)."""

import datetime
import json
import uuid

import pytest

# Each call takes the better part of a second, most of it the command line's own start: one version of it, on one provider.
pytestmark = pytest.mark.parametrize("aws", ["v1"], indirect=True)


@pytest.fixture(scope="session")
def server(local):
    """A gateway with its defaults."""
    return local


@pytest.fixture
def name(aws):
    """A new bucket."""
    bucket = f"feature-{uuid.uuid4().hex[:12]}"
    aws("s3api", "create-bucket", "--bucket", bucket)
    return bucket


def call(aws, operation: str, bucket: str, *arguments: str) -> dict:
    """What an operation answers; it must succeed."""
    return json.loads(aws("s3api", operation, "--bucket", bucket, *arguments).stdout or b"{}")


def refused(aws, operation: str, bucket: str, *arguments: str) -> str:
    """The code of an operation that must not succeed."""
    done = aws("s3api", operation, "--bucket", bucket, *arguments, check=False)
    assert done.returncode != 0, f"{operation} {arguments} was not refused"
    text = done.stderr.decode()
    assert "An error occurred (" in text, text
    return text.split("An error occurred (", 1)[1].split(")", 1)[0]


def put(aws, tmp_path, bucket: str, key: str, text: str, *arguments: str) -> dict:
    """Puts an object."""
    (tmp_path / "body").write_text(text)
    return call(aws, "put-object", bucket, "--key", key, "--body", "body", *arguments)


def read(aws, tmp_path, bucket: str, key: str, *arguments: str) -> str:
    """Reads an object."""
    call(aws, "get-object", bucket, "--key", key, *arguments, "out")
    return (tmp_path / "out").read_text()


def test_versioning(aws, name, tmp_path):
    assert "Status" not in call(aws, "get-bucket-versioning", name)
    put(aws, tmp_path, name, "k", "null")
    call(aws, "put-bucket-versioning", name, "--versioning-configuration", "Status=Enabled")
    assert call(aws, "get-bucket-versioning", name)["Status"] == "Enabled"
    first = put(aws, tmp_path, name, "k", "one")["VersionId"]
    second = put(aws, tmp_path, name, "k", "two")["VersionId"]
    marker = call(aws, "delete-object", name, "--key", "k")
    assert marker["DeleteMarker"] is True
    assert refused(aws, "get-object", name, "--key", "k", "out") == "NoSuchKey"
    assert refused(aws, "head-object", name, "--key", "k", "--version-id", marker["VersionId"]) == "405"
    for version, text in [(first, "one"), (second, "two"), ("null", "null")]:
        assert read(aws, tmp_path, name, "k", "--version-id", version) == text
    # Page by page, as the command line does it by itself.
    listed = call(aws, "list-object-versions", name, "--page-size", "1")
    assert [entry["VersionId"] for entry in listed["Versions"]] == [second, first, "null"]
    assert [entry["VersionId"] for entry in listed["DeleteMarkers"]] == [marker["VersionId"]]
    gone = call(aws, "delete-object", name, "--key", "k", "--version-id", marker["VersionId"])
    assert gone["DeleteMarker"] is True and read(aws, tmp_path, name, "k") == "two"
    call(aws, "copy-object", name, "--key", "k", "--copy-source", f"{name}/k?versionId={first}")
    assert read(aws, tmp_path, name, "k") == "one"
    call(aws, "put-bucket-versioning", name, "--versioning-configuration", "Status=Suspended")
    assert put(aws, tmp_path, name, "k", "null again").get("VersionId", "null") == "null"
    assert read(aws, tmp_path, name, "k", "--version-id", "null") == "null again"
    assert refused(aws, "put-bucket-versioning", name, "--versioning-configuration", "Status=Sometimes") in (
        "MalformedXML",
        "IllegalVersioningConfigurationException",
    )
    assert call(aws, "get-bucket-versioning", name)["Status"] == "Suspended", "a refused document leaves the old one in force"


def test_object_lock(aws, tmp_path):
    name = f"locked-{uuid.uuid4().hex[:12]}"
    aws("s3api", "create-bucket", "--bucket", name, "--object-lock-enabled-for-bucket")
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    call(aws, "put-object-lock-configuration", name, "--object-lock-configuration", json.dumps(rule))
    assert call(aws, "get-object-lock-configuration", name)["ObjectLockConfiguration"] == rule
    version = put(aws, tmp_path, name, "k", "kept")["VersionId"]
    of = ["--key", "k", "--version-id", version]
    assert call(aws, "get-object-retention", name, *of)["Retention"]["Mode"] == "GOVERNANCE"
    assert refused(aws, "delete-object", name, *of) == "AccessDenied"
    call(aws, "put-object-legal-hold", name, *of, "--legal-hold", "Status=ON")
    assert call(aws, "get-object-legal-hold", name, *of)["LegalHold"]["Status"] == "ON"
    assert refused(aws, "delete-object", name, *of, "--bypass-governance-retention") == "AccessDenied"
    call(aws, "put-object-legal-hold", name, *of, "--legal-hold", "Status=OFF")
    until = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    call(aws, "put-object-retention", name, *of, "--retention", f"Mode=COMPLIANCE,RetainUntilDate={until}", "--bypass-governance-retention")
    assert refused(aws, "delete-object", name, *of, "--bypass-governance-retention") == "AccessDenied"
    assert refused(aws, "put-object-retention", name, *of, "--retention", "Mode=GOVERNANCE,RetainUntilDate=2030-01-01T00:00:00Z") == "AccessDenied"
    held = put(aws, tmp_path, name, "held", "x", "--object-lock-legal-hold-status", "ON")["VersionId"]
    assert call(aws, "head-object", name, "--key", "held", "--version-id", held)["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(aws, "put-bucket-versioning", name, "--versioning-configuration", "Status=Suspended") == "InvalidBucketState"
    bad = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1, "Years": 1}}}
    assert refused(aws, "put-object-lock-configuration", name, "--object-lock-configuration", json.dumps(bad)) == "MalformedXML"
    assert call(aws, "get-object-lock-configuration", name)["ObjectLockConfiguration"] == rule


def test_tagging(aws, name, tmp_path):
    assert refused(aws, "get-bucket-tagging", name) == "NoSuchTagSet"
    call(aws, "put-bucket-tagging", name, "--tagging", '{"TagSet": [{"Key": "team", "Value": "blue"}, {"Key": "x", "Value": ""}]}')
    assert {tag["Key"]: tag["Value"] for tag in call(aws, "get-bucket-tagging", name)["TagSet"]} == {"team": "blue", "x": ""}
    assert refused(aws, "put-bucket-tagging", name, "--tagging", "TagSet=[{Key=a,Value=1},{Key=a,Value=2}]") in ("InvalidTag", "MalformedXML")
    assert len(call(aws, "get-bucket-tagging", name)["TagSet"]) == 2, "a refused document leaves the old one in force"
    call(aws, "delete-bucket-tagging", name)
    assert refused(aws, "get-bucket-tagging", name) == "NoSuchTagSet"
    put(aws, tmp_path, name, "k", "x", "--tagging", "a=1&b=two%20words")
    assert call(aws, "get-object-tagging", name, "--key", "k")["TagSet"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
    call(aws, "put-object-tagging", name, "--key", "k", "--tagging", "TagSet=[{Key=c,Value=3}]")
    call(aws, "copy-object", name, "--key", "copy", "--copy-source", f"{name}/k", "--tagging-directive", "COPY")
    assert call(aws, "get-object-tagging", name, "--key", "copy")["TagSet"] == [{"Key": "c", "Value": "3"}]
    call(aws, "delete-object-tagging", name, "--key", "k")
    assert call(aws, "get-object-tagging", name, "--key", "k")["TagSet"] == []


def test_policy_and_public_access_block(aws, name, tmp_path, server):
    put(aws, tmp_path, name, "k", "for all")
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert refused(aws, "get-bucket-policy", name) == "NoSuchBucketPolicy"
    block = "BlockPublicAcls={0},IgnorePublicAcls={0},BlockPublicPolicy={0},RestrictPublicBuckets={0}"
    call(aws, "put-public-access-block", name, "--public-access-block-configuration", block.format("true"))
    assert set(call(aws, "get-public-access-block", name)["PublicAccessBlockConfiguration"].values()) == {True}
    assert refused(aws, "put-bucket-policy", name, "--policy", policy) == "AccessDenied"
    call(aws, "put-public-access-block", name, "--public-access-block-configuration", block.format("false"))
    call(aws, "put-bucket-policy", name, "--policy", policy)
    assert json.loads(call(aws, "get-bucket-policy", name)["Policy"]) == json.loads(policy)
    assert call(aws, "get-bucket-policy-status", name)["PolicyStatus"]["IsPublic"] is True
    aws("s3api", "get-object", "--bucket", name, "--key", "k", "--no-sign-request", "out")
    assert (tmp_path / "out").read_text() == "for all"
    assert refused(aws, "put-bucket-policy", name, "--policy", '{"Version": "2012-10-17", "Statement": [{}]}') == "MalformedPolicy"
    assert json.loads(call(aws, "get-bucket-policy", name)["Policy"]) == json.loads(policy), "a refused document leaves the old one in force"
    call(aws, "put-public-access-block", name, "--public-access-block-configuration", "RestrictPublicBuckets=true")
    assert aws("s3api", "get-object", "--bucket", name, "--key", "k", "--no-sign-request", "out", check=False).returncode != 0
    call(aws, "delete-public-access-block", name)
    assert refused(aws, "get-public-access-block", name) == "NoSuchPublicAccessBlockConfiguration"
    call(aws, "delete-bucket-policy", name)
    assert aws("s3api", "get-object", "--bucket", name, "--key", "k", "--no-sign-request", "out", check=False).returncode != 0


def test_acl_and_ownership(aws, name, tmp_path):
    def rules(ownership):
        return ["--ownership-controls", f"Rules=[{{ObjectOwnership={ownership}}}]"]

    call(aws, "put-bucket-ownership-controls", name, *rules("BucketOwnerEnforced"))
    assert refused(aws, "put-bucket-acl", name, "--acl", "public-read") == "AccessControlListNotSupported"
    call(aws, "put-bucket-ownership-controls", name, *rules("ObjectWriter"))
    assert call(aws, "get-bucket-ownership-controls", name)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "ObjectWriter"}]
    assert refused(aws, "put-bucket-ownership-controls", name, *rules("Nobody")) == "MalformedXML"
    assert call(aws, "get-bucket-ownership-controls", name)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "ObjectWriter"}]
    call(aws, "put-bucket-acl", name, "--acl", "public-read")
    grants = call(aws, "get-bucket-acl", name)["Grants"]
    assert {grant["Permission"] for grant in grants} == {"FULL_CONTROL", "READ"}
    put(aws, tmp_path, name, "k", "text", "--acl", "public-read")
    aws("s3api", "get-object", "--bucket", name, "--key", "k", "--no-sign-request", "out")
    aws("s3api", "list-objects-v2", "--bucket", name, "--no-sign-request")
    call(aws, "put-object-acl", name, "--key", "k", "--acl", "private")
    assert aws("s3api", "get-object", "--bucket", name, "--key", "k", "--no-sign-request", "out", check=False).returncode != 0
    assert [grant["Permission"] for grant in call(aws, "get-object-acl", name, "--key", "k")["Grants"]] == ["FULL_CONTROL"]
    call(aws, "delete-bucket-ownership-controls", name)
    assert refused(aws, "get-bucket-ownership-controls", name) == "OwnershipControlsNotFoundError"


def test_cors(aws, name):
    assert refused(aws, "get-bucket-cors", name) == "NoSuchCORSConfiguration"
    rule = {"AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 5}
    call(aws, "put-bucket-cors", name, "--cors-configuration", json.dumps({"CORSRules": [rule]}))
    assert call(aws, "get-bucket-cors", name)["CORSRules"] == [rule]
    for bad, code in [({"AllowedMethods": ["PATCH"]}, "InvalidRequest"), ({"AllowedOrigins": ["*.*"]}, "InvalidRequest")]:
        assert refused(aws, "put-bucket-cors", name, "--cors-configuration", json.dumps({"CORSRules": [rule | bad]})) == code
    assert call(aws, "get-bucket-cors", name)["CORSRules"] == [rule], "a refused document leaves the old one in force"
    call(aws, "delete-bucket-cors", name)
    assert refused(aws, "get-bucket-cors", name) == "NoSuchCORSConfiguration"


def test_lifecycle(aws, name, tmp_path):
    assert refused(aws, "get-bucket-lifecycle-configuration", name) == "NoSuchLifecycleConfiguration"

    def configured(*rules):
        return ["--lifecycle-configuration", json.dumps({"Rules": list(rules)})]

    expire = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    others = {
        "ID": "others",
        "Status": "Disabled",
        "Filter": {"And": {"Prefix": "a/", "Tags": [{"Key": "t", "Value": "1"}], "ObjectSizeGreaterThan": 5}},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 3},
    }
    uploads = {"ID": "up", "Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    call(aws, "put-bucket-lifecycle-configuration", name, *configured(expire, others, uploads))
    assert call(aws, "get-bucket-lifecycle-configuration", name)["Rules"] == [expire, others, uploads]
    assert 'rule-id="logs"' in put(aws, tmp_path, name, "logs/x", "x")["Expiration"]
    assert "Expiration" not in put(aws, tmp_path, name, "else", "x")
    for bad, code in [
        (expire | {"Expiration": {"Days": 0}}, "InvalidArgument"),
        (expire | {"Status": "Perhaps"}, "MalformedXML"),
        (expire | {"Expiration": {"Date": "2030-01-01T10:00:00Z"}}, "InvalidArgument"),
        ({"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}}, "InvalidRequest"),
    ]:
        assert refused(aws, "put-bucket-lifecycle-configuration", name, *configured(bad)) == code, bad
    assert len(call(aws, "get-bucket-lifecycle-configuration", name)["Rules"]) == 3, "a refused document leaves the old one in force"
    call(aws, "delete-bucket-lifecycle", name)
    assert refused(aws, "get-bucket-lifecycle-configuration", name) == "NoSuchLifecycleConfiguration"


DESTINATION = {"S3BucketDestination": {"Bucket": "arn:aws:s3:::x", "Format": "CSV"}}
ANALYTICS = {"Id": "i", "StorageClassAnalysis": {"DataExport": {"OutputSchemaVersion": "V_1", "Destination": DESTINATION}}}
INVENTORY = {
    "Destination": DESTINATION,
    "IsEnabled": True,
    "Id": "i",
    "IncludedObjectVersions": "All",
    "Schedule": {"Frequency": "Daily"},
}
REPLICATION = {"Role": "arn:aws:iam::1:role/r", "Rules": [{"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::x"}}]}
TIERING = {"Id": "i", "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}
WEBSITE = {"IndexDocument": {"Suffix": "index.html"}}
LOGGING = {"LoggingEnabled": {"TargetBucket": "x", "TargetPrefix": ""}}


def test_what_is_not_configured_is_told_so(aws, name):
    """Every question has an answer that a client understands, and it is the one of a bucket where nobody ever configured anything."""
    for operation in ("list-bucket-analytics-configurations", "list-bucket-metrics-configurations", "list-bucket-inventory-configurations"):
        assert call(aws, operation, name)["IsTruncated"] is False
    assert call(aws, "list-bucket-intelligent-tiering-configurations", name).get("IsTruncated") is False
    for operation in ("analytics", "metrics", "inventory", "intelligent-tiering"):
        assert refused(aws, f"get-bucket-{operation}-configuration", name, "--id", "i") == "NoSuchConfiguration"
    assert call(aws, "get-bucket-accelerate-configuration", name) == {}
    assert call(aws, "get-bucket-logging", name) == {}
    assert call(aws, "get-bucket-notification-configuration", name) == {}
    assert call(aws, "get-bucket-request-payment", name) == {"Payer": "BucketOwner"}
    assert refused(aws, "get-bucket-replication", name) == "ReplicationConfigurationNotFoundError"
    assert refused(aws, "get-bucket-website", name) == "NoSuchWebsiteConfiguration"


def test_what_is_not_implemented_is_refused(aws, name, tmp_path):
    """No configuration that nothing would keep to is accepted, and no half of an answer is given."""
    put(aws, tmp_path, name, "k", "a,b\n")
    for operation, *arguments in [
        ("put-bucket-analytics-configuration", "--id", "i", "--analytics-configuration", json.dumps(ANALYTICS)),
        ("put-bucket-metrics-configuration", "--id", "i", "--metrics-configuration", "Id=i"),
        ("put-bucket-inventory-configuration", "--id", "i", "--inventory-configuration", json.dumps(INVENTORY)),
        ("put-bucket-intelligent-tiering-configuration", "--id", "i", "--intelligent-tiering-configuration", json.dumps(TIERING)),
        ("put-bucket-accelerate-configuration", "--accelerate-configuration", "Status=Enabled"),
        ("put-bucket-request-payment", "--request-payment-configuration", "Payer=Requester"),
        ("put-bucket-replication", "--replication-configuration", json.dumps(REPLICATION)),
        ("put-bucket-logging", "--bucket-logging-status", json.dumps(LOGGING)),
        ("put-bucket-website", "--website-configuration", json.dumps(WEBSITE)),
        ("restore-object", "--key", "k", "--restore-request", "Days=1"),
    ]:
        assert refused(aws, operation, name, *arguments) == "NotImplemented", operation
    select = ["--key", "k", "--expression", "select * from s3object", "--expression-type", "SQL"]
    select += ["--input-serialization", "CSV={}", "--output-serialization", "CSV={}", "out"]
    assert refused(aws, "select-object-content", name, *select) == "NotImplemented"
    assert read(aws, tmp_path, name, "k") == "a,b\n"
    # Taking away what is not there is no error.
    for operation in ("analytics", "metrics", "inventory", "intelligent-tiering"):
        call(aws, f"delete-bucket-{operation}-configuration", name, "--id", "i")
    call(aws, "delete-bucket-replication", name)
    call(aws, "delete-bucket-website", name)
