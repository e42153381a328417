"""`sluice doctor`: it finds nothing where nothing is wrong, and names what is."""

import os
import shutil
import subprocess

from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from gateway import Gateway, free_port


def doctor(server: Gateway, *arguments: str, keys: bool = True, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [str(server.program), "doctor", "--data-dir", str(server.data_dir), "--admin-listen", f"127.0.0.1:{server.admin_port}"]
    command += [*(arguments or ("--endpoint", server.endpoint))]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SLUICE_"))}
    if keys:
        env |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    env |= environment or {}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, stdin=subprocess.DEVNULL)


def test_all_is_well(server):
    done = doctor(server)
    assert done.returncode == 0 and done.stdout.endswith("all is well\n"), done.stdout + done.stderr
    for what in ("clock", "presigned links", "Terraform", "rclone", "boto3", "browsers"):
        assert any(line.startswith("ok") and what in line for line in done.stdout.splitlines()), done.stdout
    assert not [bucket for bucket in boto3_client(server).list_buckets()["Buckets"] if "doctor" in bucket["Name"]]
    unsigned = doctor(server, keys=False)
    assert unsigned.returncode == 0 and "AWS_ACCESS_KEY_ID" in unsigned.stdout
    assert doctor(server, "--health").returncode == 0


def test_what_is_wrong_is_named(fresh):
    server = fresh()
    boto3_client(server).create_bucket(Bucket="broken")
    wrong = doctor(server, "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert wrong.returncode == 1 and "does not answer" in wrong.stdout
    admin = doctor(server, "--endpoint", server.admin)
    assert admin.returncode == 1 and "not an S3 endpoint" in admin.stdout
    server.data_dir.chmod(0o755)
    loose = doctor(server)
    assert loose.returncode == 1 and "chmod 700" in loose.stdout
    server.data_dir.chmod(0o700)
    shutil.rmtree(server.data_dir / "buckets" / "broken")
    (server.data_dir / "buckets" / "broken").write_text("no folder")
    mount = doctor(server)
    assert mount.returncode == 1 and 'broken ""' in mount.stdout, mount.stdout
    server.kill()
    gone = doctor(server, "--health")
    assert gone.returncode == 1 and "is `sluice serve` running" in gone.stderr
