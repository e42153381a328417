"""Roles for people whom an identity provider vouches for, the simulation of policies, renewed sessions, and when keys were used."""

import time
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.exceptions import ClientError
from conftest import MEMORY
from gateway import Gateway
from issuer import Issuer
from test_iam import SECRET, allow, client, document, refused, temporary

CONFIG = MEMORY + "[tokens]\nopenid_http = true\n"
OWNER = {"aws_access_key_id": "WEBTENANT", "aws_secret_access_key": SECRET}


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as one:
        yield one


@pytest.fixture(scope="module")
def gateway(environment, issuer):
    """A gateway with an account that has registered the issuer, and a bucket."""
    with Gateway(config=CONFIG) as one:
        one.create_key("webtenant", OWNER["aws_access_key_id"], SECRET)
        iam = client(one, "iam", OWNER)
        iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app"], ThumbprintList=["a" * 40])
        client(one, "s3", OWNER).create_bucket(Bucket="shared")
        yield one


def trust(provider: str, **condition) -> str:
    statement = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]}
    return document({**statement, **({"Condition": condition} if condition else {})})


def provider_arn(gateway) -> str:
    [found] = client(gateway, "iam", OWNER).list_open_id_connect_providers()["OpenIDConnectProviderList"]
    return found["Arn"]


def role(gateway, name: str, trusted: str, *statements) -> str:
    iam = client(gateway, "iam", OWNER)
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document(*statements))
    return arn


def assume(gateway, arn: str, token: str, **more) -> dict:
    """Asks without any credentials."""
    sts = client(gateway, "sts", {"aws_access_key_id": "none", "aws_secret_access_key": "none"})
    return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="session", WebIdentityToken=token, **more)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_role_for_a_web_identity(gateway, issuer, algorithm):
    """Who the issuer and the trust policy say it is, and nobody else; then what the role may."""
    conditions = {"StringEquals": {f"{issuer.place}:aud": "app", f"{issuer.place}:sub": "zoe"}}
    arn = role(gateway, f"zoe-{algorithm}", trust(provider_arn(gateway), **conditions), allow("s3:ListBucket"))
    answer = assume(gateway, arn, issuer.token(algorithm), DurationSeconds=900)
    assert answer["SubjectFromWebIdentityToken"] == "zoe" and answer["Audience"] == "app"
    assert answer["Provider"] == provider_arn(gateway)
    s3 = client(gateway, "s3", temporary(answer))
    assert s3.list_objects_v2(Bucket="shared")["KeyCount"] == 0
    refused("AccessDenied", s3.put_object, Bucket="shared", Key="k", Body=b"x")
    who = client(gateway, "sts", temporary(answer)).get_caller_identity()
    assert who["Arn"].endswith(f":assumed-role/zoe-{algorithm}/session")
    for claims, code in [
        ({"sub": "max"}, "AccessDenied"),
        ({"aud": "other"}, "InvalidIdentityToken"),
        ({"exp": int(time.time()) - 300}, "ExpiredTokenException"),
        ({"nbf": int(time.time()) + 300}, "InvalidIdentityToken"),
        ({"iss": issuer.url + "x"}, "InvalidIdentityToken"),
    ]:
        refused(code, assume, gateway=gateway, arn=arn, token=issuer.token(algorithm, **claims))
    forged = issuer.token(algorithm)
    forged = forged[:-8] + ("AAAAAAAA" if not forged.endswith("AAAAAAAA") else "BBBBBBBB")
    refused("InvalidIdentityToken", assume, gateway=gateway, arn=arn, token=forged)
    refused("AccessDenied", assume, gateway=gateway, arn=arn + "x", token=issuer.token(algorithm))
    # Metadata and keys were read once for all of them.
    assert len(issuer.asked) == 2


def test_session_tags_and_policies_of_a_web_identity(gateway, issuer):
    """What the provider says of somebody decides what they may; a session policy narrows it."""
    statement = allow("s3:GetObject", "arn:aws:s3:::shared/${aws:PrincipalTag/team}/*")
    own = allow("s3:PutObject", "arn:aws:s3:::shared/${" + issuer.place + ":sub}/*")
    arn = role(gateway, "tagged", trust(provider_arn(gateway)), statement, own)
    client(gateway, "s3", OWNER).put_object(Bucket="shared", Key="red/k", Body=b"x")
    tags = {"https://aws.amazon.com/tags": {"principal_tags": {"team": ["red"]}}}
    red = client(gateway, "s3", temporary(assume(gateway, arn, issuer.token(**tags))))
    assert red.get_object(Bucket="shared", Key="red/k")["Body"].read() == b"x"
    red.put_object(Bucket="shared", Key="zoe/k", Body=b"x")
    refused("AccessDenied", red.put_object, Bucket="shared", Key="max/k", Body=b"x")
    blue = client(gateway, "s3", temporary(assume(gateway, arn, issuer.token())))
    refused("AccessDenied", blue.get_object, Bucket="shared", Key="red/k")
    narrow = assume(gateway, arn, issuer.token(**tags), Policy=document(allow("s3:PutObject")))
    refused("AccessDenied", client(gateway, "s3", temporary(narrow)).get_object, Bucket="shared", Key="red/k")


def test_providers_are_of_their_account(gateway, issuer):
    """Clients come and go; another account sees nothing, and its roles take no tokens."""
    iam = client(gateway, "iam", OWNER)
    arn = provider_arn(gateway)
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="second")
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"] == ["app", "second"]
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="second")
    refused("EntityAlreadyExists", iam.create_open_id_connect_provider, Url=issuer.url, ThumbprintList=["a" * 40])
    refused("InvalidInput", iam.create_open_id_connect_provider, Url="ftp://idp", ThumbprintList=["a" * 40])
    gateway.create_key("webother", "WEBOTHER", SECRET)
    other = {"aws_access_key_id": "WEBOTHER", "aws_secret_access_key": SECRET}
    theirs = client(gateway, "iam", other)
    assert theirs.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    refused("NoSuchEntity", theirs.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)
    role_arn = theirs.create_role(RoleName="r", AssumeRolePolicyDocument=trust(arn))["Role"]["Arn"]
    refused("InvalidIdentityToken", assume, gateway=gateway, arn=role_arn, token=issuer.token())


def test_an_issuer_that_is_gone(environment, tmp_path):
    """Its keys are believed for a while; a provider that was never reached lets nobody in."""
    with Gateway(config=CONFIG) as gateway:
        gateway.create_key("webtenant", OWNER["aws_access_key_id"], SECRET)
        iam = client(gateway, "iam", OWNER)
        with Issuer() as issuer:
            arn = iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app"])["OpenIDConnectProviderArn"]
            known = role(gateway, "known", trust(arn), allow("s3:*"))
            assume(gateway, known, issuer.token())
            token = issuer.token()
        assume(gateway, known, token)
        with Issuer() as silent:
            arn = iam.create_open_id_connect_provider(Url=silent.url, ClientIDList=["app"])["OpenIDConnectProviderArn"]
            never = role(gateway, "never", trust(arn), allow("s3:*"))
            token = silent.token()
        refused("IDPCommunicationError", assume, gateway=gateway, arn=never, token=token)


def test_simulated_policies(gateway):
    """What would be allowed, by whose policy, and which values are missing."""
    iam = client(gateway, "iam", OWNER)
    iam.create_user(UserName="simulated")
    arn = iam.get_user(UserName="simulated")["User"]["Arn"]
    inside = {"StringLike": {"s3:prefix": "in/*"}}
    never = {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}
    policy = document(allow("s3:GetObject", "arn:aws:s3:::shared/*"), allow("s3:ListBucket", **inside), never)
    iam.put_user_policy(UserName="simulated", PolicyName="own", PolicyDocument=policy)

    def simulate(*actions, resource="arn:aws:s3:::shared/k", context=(), **more) -> dict:
        entries = [{"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"} for name, value in context]
        answer = iam.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=list(actions), ResourceArns=[resource], ContextEntries=entries, **more
        )
        return {result["EvalActionName"]: result for result in answer["EvaluationResults"]}

    results = simulate("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    assert {name: result["EvalDecision"] for name, result in results.items()} == {
        "s3:GetObject": "allowed",
        "s3:PutObject": "implicitDeny",
        "s3:DeleteObject": "explicitDeny",
    }
    assert results["s3:GetObject"]["MatchedStatements"][0]["SourcePolicyId"] == "own"
    listing = simulate("s3:ListBucket", resource="arn:aws:s3:::shared")["s3:ListBucket"]
    assert listing["EvalDecision"] == "implicitDeny" and listing["MissingContextValues"] == ["s3:prefix"]
    listing = simulate("s3:ListBucket", resource="arn:aws:s3:::shared", context=[("s3:prefix", "in/a")])["s3:ListBucket"]
    assert listing["EvalDecision"] == "allowed" and not listing["MissingContextValues"]
    bounded = simulate("s3:GetObject", PermissionsBoundaryPolicyInputList=[document(allow("s3:PutObject"))])["s3:GetObject"]
    assert bounded["EvalDecision"] == "implicitDeny"
    assert bounded["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"] is False
    custom = iam.simulate_custom_policy(PolicyInputList=[policy], ActionNames=["s3:GetObject"], ResourceArns=["arn:aws:s3:::other/k"])
    assert custom["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"
    refused("InvalidInput", iam.simulate_custom_policy, PolicyInputList=["{"], ActionNames=["s3:GetObject"])
    refused("NoSuchEntity", iam.simulate_principal_policy, PolicySourceArn=arn + "x", ActionNames=["s3:GetObject"])


def renew(gateway, credentials: dict) -> dict:
    """Renews a session: an action that AWS does not have, signed as any other."""
    given = botocore.credentials.Credentials(
        credentials["aws_access_key_id"], credentials["aws_secret_access_key"], credentials["aws_session_token"]
    )
    body = "Action=RenewSession&Version=2011-06-15"
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    request = botocore.awsrequest.AWSRequest("POST", gateway.endpoint + "/", headers, body)
    botocore.auth.SigV4Auth(given, "sts", "us-east-1").add_auth(request)
    asked = urllib.request.Request(request.url, data=body.encode(), headers=dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        return {"error": error.read().decode().partition("<Code>")[2].partition("</Code>")[0]}
    value = lambda name: text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]  # noqa: E731
    return {
        "aws_access_key_id": value("AccessKeyId"),
        "aws_secret_access_key": value("SecretAccessKey"),
        "aws_session_token": value("SessionToken"),
    }


def test_a_session_is_renewed_and_a_revoked_one_is_not(gateway):
    """Within four hours of its end, once; the old one is over. A session that was revoked stays so."""
    iam, sts = client(gateway, "iam", OWNER), client(gateway, "sts", OWNER)
    iam.create_user(UserName="renewing")
    iam.put_user_policy(UserName="renewing", PolicyName="p", PolicyDocument=document(allow("s3:*")))
    key = iam.create_access_key(UserName="renewing")["AccessKey"]
    own = client(gateway, "sts", {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]})
    first = temporary(own.get_session_token(DurationSeconds=900))
    second = renew(gateway, first)
    assert client(gateway, "s3", second).list_objects_v2(Bucket="shared")
    with pytest.raises(ClientError):
        client(gateway, "s3", first).list_objects_v2(Bucket="shared")
    assert renew(gateway, first)["error"] == "InvalidClientTokenId"
    assert renew(gateway, {**second, "aws_session_token": "x" * 120})["error"] == "InvalidClientTokenId"
    # Too early: it lasts twelve hours.
    long = temporary(own.get_session_token(DurationSeconds=43_200))
    assert renew(gateway, long)["error"] == "ValidationError"
    gateway.command("key", "revoke", second["aws_access_key_id"])
    assert renew(gateway, second)["error"] == "InvalidClientTokenId"
    assert sts.get_caller_identity()["Account"]


def test_when_a_key_was_used(environment):
    """At once as the gateway knows it, and after a restart as it was written."""
    with Gateway(config=MEMORY) as gateway:
        gateway.create_key("webtenant", OWNER["aws_access_key_id"], SECRET)
        iam = client(gateway, "iam", OWNER)
        iam.create_user(UserName="used")
        key = iam.create_access_key(UserName="used")["AccessKey"]
        last = lambda: client(gateway, "iam", OWNER).get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]  # noqa: E731
        assert "LastUsedDate" not in last()
        own = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        client(gateway, "sts", own).get_caller_identity()
        used = last()["LastUsedDate"]
        assert abs(used.timestamp() - time.time()) < 60
        gateway.restart()
        assert last()["LastUsedDate"] == used
