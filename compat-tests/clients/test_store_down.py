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
from wire import Wire

pytestmark = pytest.mark.skipif(POSTGRES is None, reason="needs a PostgreSQL server: `bash compat-tests/run postgres`")


@pytest.fixture
def cut_off(environment, tmp_path):
    """A gateway that reaches its server by a cable."""
    url = urllib.parse.urlsplit(POSTGRES)
    cable = Line(url.hostname, url.port or 5432)

    class Cabled(Gateway):
        def _environment(self) -> dict[str, str]:
            env = super()._environment()
            env["SLUICE_META_DSN"] = env["SLUICE_META_DSN"].replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{cable.port}")
            return env

    with Cabled(config=MEMORY + "[meta]\nbreaker_recovery_secs = 1\n", data_dir=tmp_path / "data") as gateway:
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
    deadline = time.monotonic() + 20
    while outcome(late) == "ServiceUnavailable":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Somebody else's bucket: the gateway knows who asks again.
    assert outcome(late) == "AccessDenied"
    assert gateway.metric("sluice_meta_circuit_open") == 0
    assert outcome(boto3_client(gateway, "NOSUCHKEY", "a-secret-of-nobody")) == "InvalidAccessKeyId"


@pytest.mark.large
@pytest.mark.timeout(300)
def test_a_server_that_is_gone_for_half_a_minute(environment, tmp_path):
    """E19 with the defaults: refusals below 5 ms, keys that are cached for as long as they may be, one probe after 30 s."""
    url = urllib.parse.urlsplit(POSTGRES)
    cable = Line(url.hostname, url.port or 5432)

    class Cabled(Gateway):
        def _environment(self) -> dict[str, str]:
            env = super()._environment()
            env["SLUICE_META_DSN"] = env["SLUICE_META_DSN"].replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{cable.port}")
            return env

    with Cabled(config=MEMORY + "[tokens]\ncache_ttl_secs = 20\n", data_dir=tmp_path / "data") as gateway:
        for name in ("known", "late"):
            gateway.create_key(name, f"{name.upper()}KEY", "a-secret-of-somebody")
        known, late, nobody = (Wire(gateway.port, key, "a-secret-of-somebody") for key in ("KNOWNKEY", "LATEKEY", "NOSUCHKEY"))
        assert known.send("PUT", "/kept").status == 200
        cable.cut()
        cut = time.monotonic()
        first = []
        while gateway.metric("sluice_meta_circuit_open") == 0:
            assert late.send("GET", "/kept").status == 503
            first.append((time.monotonic() - cut) * 1e3)
        opened, refusals, served, ended = time.monotonic(), [], 0.0, 0.0
        while not ended:
            for wire in (late, nobody):
                began = time.monotonic()
                wire.send("GET", "/kept").is_error(503, "ServiceUnavailable", "/kept")
                refusals.append((time.monotonic() - began) * 1e3)
            if known.send("GET", "/kept").status == 200:
                served = time.monotonic() - cut
            else:
                ended = time.monotonic() - cut
            assert ended == 0 or ended > 15, "a key that is cached was refused"
            assert time.monotonic() - cut < 28, "a key was served for longer than it may be cached"
            time.sleep(0.05)
        cable.mend()
        probes = gateway.metric("sluice_meta_circuit_opened_total")
        while late.send("GET", "/kept").status == 503:
            assert time.monotonic() - opened < 60
            time.sleep(0.05)
        back = time.monotonic() - opened
        late.send("GET", "/kept").is_error(403, "AccessDenied", "/kept")
        nobody.send("GET", "/kept").is_error(403, "InvalidAccessKeyId", "/kept")
        assert gateway.metric("sluice_meta_circuit_open") == 0
        refusals.sort()
        p99 = refusals[len(refusals) * 99 // 100]
        print(
            f"open after {len(first)} requests in {first[-1]:.0f} ms; {len(refusals)} refusals, median {refusals[len(refusals) // 2]:.2f}, p99 {p99:.2f} ms;"
            f" a cached key served for {served:.1f} s of 20; served again {back:.1f} s after the circuit opened ({probes:.0f} opening)"
        )
        assert refusals[len(refusals) // 2] < 5 and back >= 29
    cable.close()


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
