"""Keys on several gateways over one metadata store: revocation, the change of the master key, the store's own commands."""

import json
import subprocess
import time
import urllib.request

import pytest
from botocore.exceptions import ClientError
from conftest import MEMORY, boto3_client
from gateway import BINARY, POSTGRES, Gateway, clean_environment
from test_iam import client as client_of
from test_iam import temporary
from test_web_identity import renew

OLD, NEW = "ab" * 32, "cd" * 32


def status(url: str) -> int:
    """The status of a plain GET."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def run(gateway: Gateway, *arguments: str) -> str:
    """A command of the binary on a gateway's data directory."""
    command = [str(BINARY), *arguments, "--data-dir", str(gateway.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pair(tmp_path):
    """Two gateways on one store, with their own data directories and one file of master keys."""
    keys = tmp_path / "keys"
    keys.write_text(OLD + "\n")
    config = MEMORY + f'[tokens]\nmaster_key_command = ["cat", "{keys}"]\n'
    with Gateway(config, data_dir=tmp_path / "one", store=tmp_path / "shared.db") as one:
        with Gateway(config, data_dir=tmp_path / "two", store=tmp_path / "shared.db") as two:
            yield one, two, keys


def new_key(gateway: Gateway, name: str) -> dict:
    """An access key of a new account."""
    return json.loads(run(gateway, "key", "create", name, "--json"))


def test_a_revoked_key_is_refused_everywhere_and_after_a_restart(pair, within_a_second):
    """E18: within a second on every gateway, for presigned URLs too, and for ever."""
    one, two, _ = pair
    key = new_key(one, "zoe")
    clients = [boto3_client(gateway, key["access_key"], key["secret_key"]) for gateway in (one, two)]
    clients[0].create_bucket(Bucket="revoked")
    links = [client.generate_presigned_url("list_objects_v2", Params={"Bucket": "revoked"}) for client in clients]
    assert clients[0].list_buckets()["Buckets"] and clients[1].list_buckets()["Buckets"]
    assert status(links[0]) == 200

    run(one, "key", "revoke", key["access_key"], "--reason", "found in a repository")
    assert status(links[0]) == 403
    within_a_second(lambda: status(links[1]) == 403)
    for client in clients:
        with pytest.raises(ClientError) as refused:
            client.list_buckets()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    two.kill()
    two.start()
    assert status(links[1]) == 403


def test_a_revoked_session_is_refused_everywhere_and_never_renewed(pair, within_a_second):
    """E18: of a session in use, too; no gateway gives another one for it, not after a restart either. The key that it came from goes on."""
    one, two, _ = pair
    key = new_key(one, "tom")
    own = {"aws_access_key_id": key["access_key"], "aws_secret_access_key": key["secret_key"]}
    client_of(one, "s3", own).create_bucket(Bucket="session")
    session = temporary(client_of(one, "sts", own).get_session_token(DurationSeconds=900))
    clients = [client_of(gateway, "s3", session) for gateway in (one, two)]
    links = [client.generate_presigned_url("list_objects_v2", Params={"Bucket": "session"}) for client in clients]
    # The buckets of memory mounts are each gateway's own; their names are not.
    assert clients[0].list_buckets()["Buckets"] and clients[1].list_buckets()["Buckets"]
    assert status(links[0]) == 200

    run(one, "key", "revoke", session["aws_access_key_id"])
    assert status(links[0]) == 403
    within_a_second(lambda: status(links[1]) == 403)
    two.kill()
    two.start()
    for gateway, client, link in zip((one, two), clients, links):
        assert status(link) == 403
        with pytest.raises(ClientError) as refused:
            client.list_buckets()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert renew(gateway, session) == {"error": "InvalidClientTokenId"}
        assert client_of(gateway, "s3", own).list_buckets()["Buckets"]


def test_presigned_urls_are_revoked_and_the_key_goes_on(pair, within_a_second):
    """What was presigned until now is over, what is presigned later is not."""
    one, two, _ = pair
    key = new_key(one, "max")
    # The links of Version 2 do not say when they were made: of such a key they are refused for good.
    client = boto3_client(two, key["access_key"], key["secret_key"], signature_version="s3v4")
    client.create_bucket(Bucket="presigned")
    link = client.generate_presigned_url("list_objects_v2", Params={"Bucket": "presigned"})
    assert status(link) == 200
    run(one, "key", "revoke", key["access_key"], "--presigned")
    within_a_second(lambda: status(link) == 403)
    assert client.list_objects_v2(Bucket="presigned")["KeyCount"] == 0
    time.sleep(1.1)  # signatures have whole seconds
    assert status(client.generate_presigned_url("list_objects_v2", Params={"Bucket": "presigned"})) == 200


def test_the_master_key_is_exchanged_while_gateways_serve(pair):
    """The new key seals, the old one is taken away, and nobody was refused."""
    one, two, keys = pair
    key = new_key(one, "eva")
    clients = [boto3_client(gateway, key["access_key"], key["secret_key"]) for gateway in (one, two)]
    clients[0].create_bucket(Bucket="sealed")
    keys.write_text(f"{NEW}\n{OLD}\n")
    done = json.loads(run(one, "meta", "reseal"))
    assert done["closed"] == 0 and done["resealed"] >= 2
    for client in clients:
        assert client.list_buckets()["Buckets"]
    later = new_key(one, "later")
    assert boto3_client(two, later["access_key"], later["secret_key"]).list_buckets()["Buckets"] == []
    keys.write_text(NEW + "\n")
    two.kill()
    two.start()
    assert clients[1].list_buckets()["Buckets"]


@pytest.mark.skipif(POSTGRES is not None, reason="copies between files")
def test_a_store_is_copied(tmp_path):
    """A gateway on the copy knows all that the first one knew."""
    with Gateway(data_dir=tmp_path / "data") as gateway:
        key = new_key(gateway, "ida")
        client = boto3_client(gateway, key["access_key"], key["secret_key"])
        client.create_bucket(Bucket="copied")
        client.put_object(Bucket="copied", Key="k", Body=b"v")
        gateway.stop()
        old, new = tmp_path / "data" / "sluice.db", tmp_path / "new.db"
        command = [str(BINARY), "meta", "copy", f"sqlite:{old}", f"sqlite:{new}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        assert "access_keys\t2" in done.stdout
        again = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), stdin=subprocess.DEVNULL)
        assert again.returncode == 1 and "holds something" in again.stderr
        old.rename(tmp_path / "old.db")
        gateway.store = new
        gateway.start()
        assert client.get_object(Bucket="copied", Key="k")["Body"].read() == b"v"
