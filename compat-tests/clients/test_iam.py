"""Users, groups, roles, policies and temporary credentials with `aws iam`, `aws sts` and boto3."""

import io
import json
import os
import sys
import urllib.request

import boto3
import botocore.config
import pytest
from botocore.exceptions import ClientError
from conftest import Tool, boto3_client, bucket_name, client_environment
from gateway import REGION

SECRET = "a-secret-of-a-tenant"


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(actions, resources="*", **condition) -> dict:
    more = {"Condition": condition} if condition else {}
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def client(server, service: str, credentials: dict):
    config = botocore.config.Config(signature_version="v4" if service != "s3" else "s3v4", retries={"max_attempts": 1, "mode": "standard"}, s3={"addressing_style": "path"})
    return boto3.client(service, endpoint_url=server.endpoint, region_name=REGION, config=config, **credentials)


def temporary(answer: dict) -> dict:
    given = answer["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


def refused(code: str, call, **arguments) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value


@pytest.fixture(scope="module")
def tenant(memory):
    """An account of its own: its credentials."""
    memory.create_key("tenant", "TENANTKEY", SECRET)
    return {"aws_access_key_id": "TENANTKEY", "aws_secret_access_key": SECRET}


@pytest.fixture
def iam(memory, tenant):
    return client(memory, "iam", tenant)


@pytest.fixture
def owned(request, memory, tenant):
    """A bucket of the tenant, with an object."""
    s3 = client(memory, "s3", tenant)
    name = bucket_name(request)
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="in/k", Body=b"x")
    s3.put_object(Bucket=name, Key="out/k", Body=b"y")
    return name


@pytest.fixture
def person(request, memory, iam):
    """A user with a key: the name, and its credentials."""
    name = bucket_name(request)[-30:].strip("-")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return name, {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}


def test_a_user_with_conditions(memory, iam, owned, person):
    """What is attached is what may be done, and nothing else."""
    name, credentials = person
    s3 = client(memory, "s3", credentials)
    refused("AccessDenied", s3.get_object, Bucket=owned, Key="in/k")
    policy = document(
        allow("s3:ListBucket", f"arn:aws:s3:::{owned}", StringLike={"s3:prefix": "in/*"}),
        allow(["s3:GetObject", "s3:PutObject"], f"arn:aws:s3:::{owned}/in/*", IpAddress={"aws:SourceIp": "127.0.0.0/8"}),
    )
    iam.put_user_policy(UserName=name, PolicyName="in", PolicyDocument=policy)
    assert iam.get_user_policy(UserName=name, PolicyName="in")["PolicyDocument"] == json.loads(policy)
    assert s3.get_object(Bucket=owned, Key="in/k")["Body"].read() == b"x"
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=owned, Prefix="in/")["Contents"]] == ["in/k"]
    s3.put_object(Bucket=owned, Key="in/new", Body=b"z")
    refused("AccessDenied", s3.list_objects_v2, Bucket=owned)
    refused("AccessDenied", s3.get_object, Bucket=owned, Key="out/k")
    refused("AccessDenied", s3.delete_object, Bucket=owned, Key="in/k")
    refused("AccessDenied", s3.list_buckets)
    elsewhere = policy.replace("127.0.0.0/8", "10.0.0.0/8")
    iam.put_user_policy(UserName=name, PolicyName="in", PolicyDocument=elsewhere)
    refused("AccessDenied", s3.get_object, Bucket=owned, Key="in/k")
    refused("MalformedPolicyDocument", iam.put_user_policy, UserName=name, PolicyName="in", PolicyDocument=elsewhere.replace("IpAddress", "IpAdress"))


def test_groups_managed_policies_and_boundaries(memory, iam, owned, person):
    name, credentials = person
    s3 = client(memory, "s3", credentials)
    arn = iam.create_policy(PolicyName=f"p-{name}", PolicyDocument=document(allow("s3:*")))["Policy"]["Arn"]
    iam.create_group(GroupName=f"g-{name}")
    iam.attach_group_policy(GroupName=f"g-{name}", PolicyArn=arn)
    iam.add_user_to_group(GroupName=f"g-{name}", UserName=name)
    assert [g["GroupName"] for g in iam.list_groups_for_user(UserName=name)["Groups"]] == [f"g-{name}"]
    assert [u["UserName"] for u in iam.get_group(GroupName=f"g-{name}")["Users"]] == [name]
    s3.put_object(Bucket=owned, Key="k", Body=b"1")
    iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary="arn:aws:iam::aws:policy/SluiceReadOnly")
    refused("AccessDenied", s3.put_object, Bucket=owned, Key="k", Body=b"2")
    assert s3.get_object(Bucket=owned, Key="k")["Body"].read() == b"1"
    iam.delete_user_permissions_boundary(UserName=name)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(allow("s3:Get*")), SetAsDefault=True)
    refused("AccessDenied", s3.put_object, Bucket=owned, Key="k", Body=b"2")
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v2", "v1"]
    iam.remove_user_from_group(GroupName=f"g-{name}", UserName=name)
    refused("AccessDenied", s3.get_object, Bucket=owned, Key="k")
    refused("DeleteConflict", iam.delete_policy, PolicyArn=arn)
    refused("DeleteConflict", iam.delete_group, GroupName=f"g-{name}")
    iam.detach_group_policy(GroupName=f"g-{name}", PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy(PolicyArn=arn)
    iam.delete_group(GroupName=f"g-{name}")
    refused("NoSuchEntity", iam.get_policy, PolicyArn=arn)


def test_a_role_with_a_session_policy(memory, tenant, iam, owned, person):
    """AssumeRole, a session policy that narrows it, and a presigned URL of the session."""
    name, credentials = person
    sts = client(memory, "sts", credentials)
    me = sts.get_caller_identity()
    assert me["Arn"].endswith(f":user/{name}")
    trust = {"Effect": "Allow", "Principal": {"AWS": me["Arn"]}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName=f"r-{name}", AssumeRolePolicyDocument=document(trust))["Role"]
    assert role["AssumeRolePolicyDocument"] == json.loads(document(trust))
    iam.put_role_policy(RoleName=f"r-{name}", PolicyName="all", PolicyDocument=document(allow("s3:*")))
    whole = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="whole")
    client(memory, "s3", temporary(whole)).put_object(Bucket=owned, Key="by-role", Body=b"r")
    read = document(allow("s3:GetObject"))
    narrow = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="narrow", Policy=read, DurationSeconds=900)
    s3 = client(memory, "s3", temporary(narrow))
    assert s3.get_object(Bucket=owned, Key="by-role")["Body"].read() == b"r"
    refused("AccessDenied", s3.put_object, Bucket=owned, Key="by-role", Body=b"n")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": owned, "Key": "by-role"})
    assert urllib.request.urlopen(url).read() == b"r"
    identity = client(memory, "sts", temporary(narrow)).get_caller_identity()
    assert identity["Arn"].endswith(f":assumed-role/r-{name}/narrow")
    halved = {**temporary(narrow), "aws_session_token": temporary(whole)["aws_session_token"]}
    refused("InvalidToken", client(memory, "s3", halved).get_object, Bucket=owned, Key="by-role")
    stranger = client(memory, "sts", tenant_of(memory, "stranger"))
    refused("AccessDenied", stranger.assume_role, RoleArn=role["Arn"], RoleSessionName="stranger")
    refused("ValidationError", sts.assume_role, RoleArn=role["Arn"], RoleSessionName="long", DurationSeconds=7200)


def tenant_of(server, name: str) -> dict:
    server.create_key(name, f"KEY{name.upper()}", SECRET)
    return {"aws_access_key_id": f"KEY{name.upper()}", "aws_secret_access_key": SECRET}


def test_session_and_federation_tokens(memory, tenant, owned):
    sts = client(memory, "sts", tenant)
    s3 = client(memory, "s3", temporary(sts.get_session_token()))
    assert s3.get_object(Bucket=owned, Key="in/k")["Body"].read() == b"x"
    # Larger than a part: the parts and their end are signed by the session too.
    body = os.urandom(9 << 20)
    s3.upload_fileobj(io.BytesIO(body), owned, "large")
    assert s3.get_object(Bucket=owned, Key="large")["Body"].read() == body
    fred = sts.get_federation_token(Name="fred", Policy=document(allow("s3:GetObject")))
    s3 = client(memory, "s3", temporary(fred))
    assert s3.get_object(Bucket=owned, Key="in/k")["Body"].read() == b"x"
    refused("AccessDenied", s3.list_objects_v2, Bucket=owned)
    refused("AccessDenied", client(memory, "sts", temporary(fred)).get_session_token)


def test_tenants_never_see_each_other(memory, iam, owned, person):
    name, _ = person
    other = tenant_of(memory, "other")
    theirs = client(memory, "iam", other)
    assert theirs.list_users()["Users"] == []
    refused("NoSuchEntity", theirs.get_user, UserName=name)
    refused("NoSuchEntity", theirs.create_access_key, UserName=name)
    s3 = client(memory, "s3", other)
    assert owned not in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    for call in (s3.list_objects_v2, s3.get_bucket_policy, s3.delete_bucket, s3.list_multipart_uploads):
        refused("AccessDenied", call, Bucket=owned)


@pytest.fixture(params=["v1", "v2"])
def aws(request, memory, tmp_path):
    """The command line of this Python environment (v1), or the machine's (v2), as the tenant."""
    access_key = f"CLITENANT{request.param.upper()}"
    memory.create_key(f"cli-tenant-{request.param}", access_key, SECRET)
    command = [sys.executable, "-m", "awscli"] if request.param == "v1" else ["/usr/bin/aws"]
    if not os.path.exists(command[0]):
        pytest.skip("Debian's awscli is not installed")
    home = tmp_path / "home"
    home.mkdir()
    env = {**client_environment(home, memory), "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": SECRET}
    tool = Tool(*command, env=env, cwd=tmp_path)
    tool.command += ["--endpoint-url", memory.endpoint, "--output", "json"]
    return tool


def test_aws_iam_and_aws_sts(aws, request):
    """A session at the command line, from the first user to the last deletion."""

    def run(*arguments, **options) -> dict:
        return json.loads(aws(*arguments, **options).stdout or b"{}")

    number = run("sts", "get-caller-identity")["Account"]
    assert run("iam", "create-user", "--user-name", "eve", "--path", "/team/")["User"]["Arn"] == f"arn:aws:iam::{number}:user/team/eve"
    for n in range(3):
        run("iam", "create-user", "--user-name", f"u{n}")
    listed = run("iam", "list-users", "--page-size", "2")["Users"]
    assert [user["UserName"] for user in listed] == ["eve", "u0", "u1", "u2"]
    key = run("iam", "create-access-key", "--user-name", "eve")["AccessKey"]
    assert [k["Status"] for k in run("iam", "list-access-keys", "--user-name", "eve")["AccessKeyMetadata"]] == ["Active"]
    assert run("iam", "get-access-key-last-used", "--access-key-id", key["AccessKeyId"])["UserName"] == "eve"
    policy = document(allow("s3:ListAllMyBuckets"), allow("sts:AssumeRole", f"arn:aws:iam::{number}:role/*"))
    run("iam", "put-user-policy", "--user-name", "eve", "--policy-name", "p", "--policy-document", policy)
    assert run("iam", "list-user-policies", "--user-name", "eve")["PolicyNames"] == ["p"]
    arn = run("iam", "create-policy", "--policy-name", "all", "--policy-document", document(allow("s3:*")))["Policy"]["Arn"]
    trust = document({"Effect": "Allow", "Principal": {"AWS": number}, "Action": "sts:AssumeRole"})
    role = run("iam", "create-role", "--role-name", "deploy", "--assume-role-policy-document", trust)["Role"]["Arn"]
    run("iam", "attach-role-policy", "--role-name", "deploy", "--policy-arn", arn)
    eve = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    mine = aws.env
    aws.env = {**mine, **eve}
    denied = aws("s3", "mb", f"s3://by-eve-{number}", check=False)
    assert denied.returncode != 0 and b"AccessDenied" in denied.stderr
    given = run("sts", "assume-role", "--role-arn", role, "--role-session-name", "session")["Credentials"]
    aws.env = {
        **mine,
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }
    aws("s3", "mb", f"s3://by-role-{number}")
    aws("s3", "rb", f"s3://by-role-{number}")
    aws.env = mine
    conflict = aws("iam", "delete-user", "--user-name", "eve", check=False)
    assert b"DeleteConflict" in conflict.stderr
    run("iam", "update-access-key", "--user-name", "eve", "--access-key-id", key["AccessKeyId"], "--status", "Inactive")
    run("iam", "delete-access-key", "--user-name", "eve", "--access-key-id", key["AccessKeyId"])
    run("iam", "delete-user-policy", "--user-name", "eve", "--policy-name", "p")
    for name in ["eve", "u0", "u1", "u2"]:
        run("iam", "delete-user", "--user-name", name)
    run("iam", "detach-role-policy", "--role-name", "deploy", "--policy-arn", arn)
    run("iam", "delete-role", "--role-name", "deploy")
    run("iam", "delete-policy", "--policy-arn", arn)
    gone = aws("iam", "get-user", "--user-name", "eve", check=False)
    assert b"NoSuchEntity" in gone.stderr


def test_root_keys_go_on_as_before(memory, s3_root, owned):
    """The operator of the installation may do everything, to everybody's buckets too."""
    assert s3_root.get_object(Bucket=owned, Key="in/k")["Body"].read() == b"x"


@pytest.fixture
def s3_root(memory):
    return boto3_client(memory)
