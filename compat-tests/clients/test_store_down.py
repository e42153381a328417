"""The metadata store on a server that goes away and comes back (E19); how many connections a gateway holds (E20)."""

import socket
import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest
from botocore.exceptions import ClientError
from conftest import MEMORY, boto3_client
from gateway import POSTGRES, Gateway

pytestmark = pytest.mark.skipif(POSTGRES is None, reason="needs a PostgreSQL server: `bash compat-tests/run postgres`")


class Cable:
    """A way to a server that can be cut."""

    def __init__(self, host: str, port: int):
        self.target, self.open, self.pairs = (host, port), True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            far = socket.create_connection(self.target)
            self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        """Ends all connections, and lets none through."""
        self.open = False
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs.clear()

    def mend(self) -> None:
        """Lets connections through again."""
        self.open = True


@pytest.fixture
def cut_off(environment, tmp_path):
    """A gateway that reaches its server by a cable."""
    url = urllib.parse.urlsplit(POSTGRES)
    cable = Cable(url.hostname, url.port or 5432)

    class Cabled(Gateway):
        def _environment(self) -> dict[str, str]:
            env = super()._environment()
            env["SLUICE_META_DSN"] = env["SLUICE_META_DSN"].replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{cable.port}")
            return env

    with Cabled(config=MEMORY + "[meta]\nbreaker_recovery_secs = 1\n", data_dir=tmp_path / "data") as gateway:
        yield gateway, cable
    cable.cut()
    cable.listener.close()


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
