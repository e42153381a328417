"""The metadata store on a server that goes away and comes back (E19); how many connections a gateway holds (E20)."""

import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest
from botocore.exceptions import ClientError
from conftest import MEMORY, boto3_client
from gateway import POSTGRES, Gateway
from line import Line
from test_iam import allow, client, document
from wire import Wire

pytestmark = pytest.mark.skipif(POSTGRES is None, reason="needs a PostgreSQL server: `bash compat-tests/run postgres`")


SECRET = "a-secret-of-somebody"


@pytest.fixture
def cut_off(environment, tmp_path, request):
    """A gateway that reaches its server by a cable. Its configuration is the parameter."""
    url = urllib.parse.urlsplit(POSTGRES)
    cable = Line(url.hostname, url.port or 5432)
    config = getattr(request, "param", "[meta]\nbreaker_recovery_secs = 1\n")

    class Cabled(Gateway):
        def _environment(self) -> dict[str, str]:
            env = super()._environment()
            env["SLUICE_META_DSN"] = env["SLUICE_META_DSN"].replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{cable.port}")
            return env

    with Cabled(config=MEMORY + config, data_dir=tmp_path / "data") as gateway:
        yield gateway, cable
    cable.close()


def outcome(client) -> str:
    """What an attempt comes to."""
    try:
        client.list_objects_v2(Bucket="kept")
        return "served"
    except ClientError as error:
        return error.response["Error"]["Code"]


def test_a_server_that_is_gone(cut_off):
    """Who is known goes on, nobody unknown is let in, calls are refused at once after five failures, and one probe finds it back."""
    gateway, cable = cut_off
    gateway.create_key("known", "KNOWNKEY", "a-secret-of-somebody")
    gateway.create_key("late", "LATEKEY", "a-secret-of-somebody")
    known = boto3_client(gateway, "KNOWNKEY", "a-secret-of-somebody")
    late = boto3_client(gateway, "LATEKEY", "a-secret-of-somebody")
    known.create_bucket(Bucket="kept")
    assert outcome(known) == "served"
    cable.cut()
    assert outcome(known) == "served"
    refusals = [outcome(late) for _ in range(8)]
    assert set(refusals) == {"ServiceUnavailable"}
    assert gateway.metric("sluice_meta_circuit_open") == 1 and gateway.metric("sluice_meta_circuit_opened_total") == 1
    refused = gateway.metric("sluice_meta_circuit_refused_total")
    assert refused > 0 and outcome(boto3_client(gateway, "NOSUCHKEY", "a-secret-of-nobody")) == "ServiceUnavailable"
    assert outcome(known) == "served"
    cable.mend()
    deadline = time.monotonic() + 60
    while outcome(late) == "ServiceUnavailable":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Somebody else's bucket: the gateway knows who asks again.
    assert outcome(late) == "AccessDenied"
    assert gateway.metric("sluice_meta_circuit_open") == 0
    assert outcome(boto3_client(gateway, "NOSUCHKEY", "a-secret-of-nobody")) == "InvalidAccessKeyId"


@pytest.mark.parametrize("cut_off", ["[tokens]\ncache_ttl_secs = 4\n[meta]\nbreaker_recovery_secs = 1\n"], indirect=True, ids=["short"])
def test_a_cached_key_goes_on_until_its_time_and_no_longer(cut_off):
    """A tenant's own key, and that of a user with policies: served, and from one moment on refused, whatever is asked."""
    gateway, cable = cut_off
    gateway.create_key("known", "KNOWNKEY", SECRET)
    own = {"aws_access_key_id": "KNOWNKEY", "aws_secret_access_key": SECRET}
    boto3_client(gateway, "KNOWNKEY", SECRET).create_bucket(Bucket="kept")
    iam = client(gateway, "iam", own)
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=document(allow("s3:ListBucket")))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    for asks in (boto3_client(gateway, "KNOWNKEY", SECRET), boto3_client(gateway, key["AccessKeyId"], key["SecretAccessKey"])):
        assert outcome(asks) == "served"
        cable.cut()
        seen, deadline = [], time.monotonic() + 30
        while seen[-3:] != ["ServiceUnavailable"] * 3:
            assert time.monotonic() < deadline, seen
            seen.append(outcome(asks))
            time.sleep(0.2)
        assert seen == sorted(seen, reverse=True) and set(seen) <= {"served", "ServiceUnavailable"}, seen
        cable.mend()
        while outcome(asks) != "served":
            assert time.monotonic() < deadline + 60
            time.sleep(0.2)


@pytest.mark.large
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cut_off", [""], indirect=True, ids=["defaults"])
def test_the_figures_of_a_server_that_is_gone(cut_off):
    """E19 with the defaults: refused in less than 5 ms, one probe after 30 s, cached keys for 300 s, and closed again by the next probe."""
    gateway, cable = cut_off
    gateway.create_key("known", "KNOWNKEY", SECRET)
    own = {"aws_access_key_id": "KNOWNKEY", "aws_secret_access_key": SECRET}
    boto3_client(gateway, "KNOWNKEY", SECRET).create_bucket(Bucket="kept")
    iam = client(gateway, "iam", own)
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=document(allow("s3:ListBucket")))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    reader = boto3_client(gateway, key["AccessKeyId"], key["SecretAccessKey"])
    cached = time.monotonic()
    assert outcome(reader) == "served"
    cable.cut()
    stranger = Wire(gateway.port, "STRANGERKEY", SECRET)
    opened = lambda: gateway.metric("sluice_meta_circuit_opened_total")  # noqa: E731
    while opened() == 0:
        stranger.send("GET", "/kept").is_error(503, "ServiceUnavailable")
    first, took = time.monotonic(), []
    for _ in range(200):
        begun = time.monotonic()
        stranger.send("GET", "/kept").is_error(503, "ServiceUnavailable")
        took.append(time.monotonic() - begun)
    took.sort()
    print(f"refused after p50 {took[100] * 1000:.2f} ms, p99 {took[198] * 1000:.2f} ms, with a connection each")
    assert took[100] < 0.005
    probed, last = None, None
    while time.monotonic() - cached < 330:
        answer = outcome(reader)
        at = time.monotonic()
        assert answer in ("served", "ServiceUnavailable")
        if answer == "served":
            last = at
        stranger.send("GET", "/kept").is_error(503, "ServiceUnavailable")
        if probed is None and opened() > 1:
            probed = at
            print(f"the first probe after {probed - first:.1f} s")
        time.sleep(0.5)
    probes = opened() - 1
    print(f"{probes:.0f} probes within {time.monotonic() - first:.0f} s; the cached key was served for {last - cached:.0f} s")
    assert 29 < probed - first < 33 and probes <= (time.monotonic() - first) / 30 + 1
    assert 290 < last - cached <= 302
    cable.mend()
    mended = time.monotonic()
    while outcome(reader) != "served":
        assert time.monotonic() - mended < 40
        time.sleep(0.2)
    print(f"served again {time.monotonic() - mended:.1f} s after the server was back")
    assert gateway.metric("sluice_meta_circuit_open") == 0


def psql(statement: str) -> str:
    """Runs a statement on the server."""
    done = subprocess.run(["psql", "-XtAc", statement, POSTGRES], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def test_a_gateway_holds_few_connections(environment, tmp_path):
    """At most `meta.pool`, however many ask at once. A role of its own tells its connections from those of others."""
    role = "counted_" + uuid.uuid4().hex[:8]
    psql(f"CREATE ROLE {role} SUPERUSER LOGIN")
    url = urllib.parse.urlsplit(POSTGRES)

    class Counted(Gateway):
        def _environment(self) -> dict[str, str]:
            env = super()._environment()
            env["SLUICE_META_DSN"] = env["SLUICE_META_DSN"].replace(f"{url.username}@", f"{role}@", 1)
            return env

    with Counted(config=MEMORY, data_dir=tmp_path / "data") as gateway:
        gateway.create_key("many", "MANYKEY", "a-secret-of-somebody")

        def ask(n: int) -> None:
            boto3_client(gateway, "MANYKEY", "a-secret-of-somebody").create_bucket(Bucket=f"many-{n:03}")

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, int(psql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")))
        for thread in threads:
            thread.join()
        assert 1 < most <= 20
        assert len(boto3_client(gateway, "MANYKEY", "a-secret-of-somebody").list_buckets()["Buckets"]) == 40
