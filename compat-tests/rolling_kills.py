"""Two gateways behind nginx under a mixed load of aws, rclone and boto3, while one of them is killed with -9 and restarted again and again.

    python compat-tests/rolling_kills.py --minutes 10 --every 60

No acknowledged write may be lost, and no request may fail that the clients' standard retries do not cover. Ends with 0 when that held.
`compat-tests/run rolling [MINUTES]` runs it on a PostgreSQL of its own. SLUICE_TEST_POSTGRES names another; with neither the two share a file.
"""

import argparse
import hashlib
import io
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import botocore.config
import gateway
from gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway, free_port

NGINX = gateway.ROOT / "docs" / "deployment" / "compose" / "nginx.conf"


class Run:
    """What the clients have done so far."""

    def __init__(self, endpoint: str, folder: pathlib.Path):
        self.endpoint, self.folder = endpoint, folder
        self.until = 0.0
        self.acknowledged: dict[str, str] = {}
        self.requests = 0
        # What each kind of client did, so that nobody who could not begin is overlooked.
        self.by: dict[str, int] = {"boto3": 0, "aws": 0, "rclone": 0}
        self.failures: list[str] = []
        self.lock = threading.Lock()

    def note(self, who: str, key: str, body: bytes) -> None:
        with self.lock:
            self.acknowledged[key] = hashlib.sha256(body).hexdigest()
            self.requests += 1
            self.by[who] += 1

    def failed(self, who: str, why: object) -> None:
        with self.lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {who}: {why}"[:600])

    def client(self):
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(retries={"max_attempts": 5, "mode": "standard"}, s3={"addressing_style": "path"}),
        )  # fmt: skip

    def environment(self, home: pathlib.Path) -> dict[str, str]:
        return {
            **gateway.clean_environment(), "HOME": str(home), "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "5", "AWS_RETRY_MODE": "standard",
        }  # fmt: skip

    # The clients

    def boto(self, number: int) -> None:
        """Small objects: written, read, listed, and now and then written over."""
        s3, turn, chance = self.client(), 0, random.Random(number)
        while time.monotonic() < self.until:
            key, body = f"boto{number}/{turn % 50}", chance.randbytes(chance.choice((100, 4096, 300_000)))
            try:
                s3.put_object(Bucket="load", Key=key, Body=body)
                self.note("boto3", key, body)
                # As applications read: a body that breaks off is asked for again, which `get_object` alone leaves to its caller.
                read = io.BytesIO()
                s3.download_fileobj("load", key, read)
                if read.getvalue() != body:
                    self.failed("boto3", f"{key} has other bytes")
                s3.list_objects_v2(Bucket="load", Prefix=f"boto{number}/", MaxKeys=10)
                self.requests += 2
            except Exception as error:  # noqa: BLE001
                self.failed("boto3", repr(error))
            turn += 1
            time.sleep(0.05)

    def aws(self) -> None:
        """Files in parts, up and down."""
        home = self.folder / "aws"
        home.mkdir()
        turn = 0
        program = shutil.which("aws", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
        while time.monotonic() < self.until:
            body = os.urandom(12 << 20)
            (home / "up").write_bytes(body)
            for arguments in (("up", f"s3://load/aws/{turn % 5}"), (f"s3://load/aws/{turn % 5}", "down")):
                command = [program, "s3", "cp", "--no-progress", *arguments]
                done = subprocess.run(command, cwd=home, env=self.environment(home), capture_output=True, text=True, timeout=180)
                if done.returncode != 0:
                    self.failed("aws", done.stderr)
                elif arguments[0] == "up":
                    self.note("aws", f"aws/{turn % 5}", body)
                elif (home / "down").read_bytes() != body:
                    self.failed("aws", "other bytes")
            turn += 1
            time.sleep(0.5)

    def rclone(self) -> None:
        """A folder that is copied up, and checked."""
        home = self.folder / "rclone"
        (home / "files").mkdir(parents=True)
        remote = f":s3,provider=Other,env_auth=true,region={REGION},endpoint='{self.endpoint}':load"
        turn = 0
        while time.monotonic() < self.until:
            for number in range(20):
                (home / "files" / str(number)).write_bytes(os.urandom(20_000))
            for verb in ("copy", "check"):
                command = ["rclone", verb, "--retries", "3", "--low-level-retries", "5", str(home / "files"), f"{remote}/rclone"]
                done = subprocess.run(command, env=self.environment(home), capture_output=True, text=True, timeout=180)
                if done.returncode != 0:
                    self.failed("rclone", f"{verb}: {done.stderr[-400:]}")
                elif verb == "copy":
                    for path in (home / "files").iterdir():
                        self.note("rclone", f"rclone/{path.name}", path.read_bytes())
            turn += 1
            time.sleep(0.5)


def nginx(folder: pathlib.Path, port: int, gateways: list[Gateway]) -> subprocess.Popen:
    """nginx with the configuration that is shipped, at these ports."""
    text = NGINX.read_text().replace("listen 9000;", f"listen 127.0.0.1:{port};").replace("worker_processes auto;", "worker_processes 1;")
    for number, server in enumerate(gateways, 1):
        text = text.replace(f"gateway-{number}:9000", f"127.0.0.1:{server.port}")
    text = re.sub(r"(http \{)", rf"\1\n access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;"
                  rf" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;", text)  # fmt: skip
    path = folder / "nginx.conf"
    path.write_text(f"daemon off;\npid {folder}/nginx.pid;\n{text}")
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(path)], stdin=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=60, help="seconds between two kills")
    asked = parser.parse_args()
    if not shutil.which("rclone"):
        parser.error("rclone is not installed")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-kills-"))
    config = f"""
[tokens]
master_key_command = ["echo", "{'ab' * 32}"]
[server]
trusted_proxies = ["127.0.0.1"]
[default_mount]
root = "{folder}/objects/{{bucket}}"
"""
    servers = [Gateway(config, data_dir=folder / name, store=folder / "store.db") for name in ("one", "two")]
    port = free_port()
    proxy, kills = None, 0
    run = Run(f"http://127.0.0.1:{port}", folder)
    try:
        for server in servers:
            server.start()
        proxy = nginx(folder, port, servers)
        time.sleep(1)
        run.client().create_bucket(Bucket="load")
        began = time.monotonic()
        run.until = began + asked.minutes * 60
        clients = [threading.Thread(target=run.boto, args=(number,)) for number in range(3)]
        clients += [threading.Thread(target=run.aws), threading.Thread(target=run.rclone)]
        for client in clients:
            client.start()
        time.sleep(asked.every / 2)
        while time.monotonic() < run.until:
            victim = servers[kills % 2]
            victim.kill()
            kills += 1
            time.sleep(2)
            victim.start()
            time.sleep(max(0.0, min(asked.every - 2, run.until - time.monotonic())))
        for client in clients:
            client.join()
        s3, lost = run.client(), []
        for key, digest in run.acknowledged.items():
            body = s3.get_object(Bucket="load", Key=key)["Body"].read()
            if hashlib.sha256(body).hexdigest() != digest:
                lost.append(key)
        took = time.monotonic() - began
        store = "PostgreSQL" if gateway.POSTGRES else "a file"
        print(f"{took:.0f} s on {store}, {kills} kills, {run.requests} acknowledged, {len(run.failures)} failed, {len(lost)} lost; writes {run.by}")
        for line in [*run.failures[:20], *lost[:20]]:
            print(f"  {line}")
        return 1 if run.failures or lost or not all(run.by.values()) else 0
    finally:
        if proxy:
            proxy.terminate()
            proxy.wait(10)
        for server in servers:
            server.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
