"""The gateways and clients that the tests share."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import uuid

import boto3
import botocore.config
import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import gateway as gateway_module  # noqa: E402
from gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway  # noqa: E402
from wire import Wire  # noqa: E402

# New buckets of this gateway live in memory.
MEMORY = """
[default_mount]
provider = "memory"
"""


def pytest_terminal_summary(terminalreporter):
    """Says loudly what was skipped, and why."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {reason}", yellow=True, bold=True)


def pytest_configure(config):
    """The scenario marks; `large` needs minutes and gigabytes."""
    config.addinivalue_line("markers", "large: gigabytes of disk and minutes of time; run with --large")


def figure(seconds: float, config) -> float:
    """A time of the acceptance scenarios: as it is with --large, on a machine that does nothing else. Among other tests it only has to come."""
    return seconds if config.getoption("--large") else max(20 * seconds, 10)


def pytest_addoption(parser):
    """--large runs the full-size scenarios."""
    parser.addoption("--large", action="store_true", help="also the full-size scenarios (5 GiB objects)")


def pytest_collection_modifyitems(config, items):
    """Leaves out the full-size scenarios unless they were asked for."""
    if config.getoption("--large"):
        return
    kept = [item for item in items if "large" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if "large" in item.keywords])
    items[:] = kept


def boto3_client(server: Gateway, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, **config):
    """A boto3 client that does not retry, so that a test sees the first answer."""
    settings = {"retries": {"max_attempts": 1, "mode": "standard"}, "s3": {"addressing_style": "path"}, **config}
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=botocore.config.Config(**settings),
    )


@pytest.fixture
def within_a_second(request):
    """Waits until something holds, and not for long."""

    def wait(holds) -> None:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < figure(1, request.config), "not within a second"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session", autouse=True)
def environment():
    """The machine's own S3 set-up must not reach the clients."""
    clean = gateway_module.clean_environment()
    for name in set(os.environ) - set(clean):
        del os.environ[name]
    os.environ.update(clean)


@pytest.fixture(scope="session")
def local(environment):
    """A gateway with its defaults: buckets are directories of the data directory."""
    with Gateway() as server:
        yield server
        assert server.process.poll() is None, f"the gateway died:\n{server.log()[-4000:]}"


@pytest.fixture(scope="session")
def memory(environment):
    """A gateway whose buckets live in memory."""
    with Gateway(config=MEMORY) as server:
        yield server
        assert server.process.poll() is None, f"the gateway died:\n{server.log()[-4000:]}"


@pytest.fixture(scope="session", params=["local", "memory"])
def server(request):
    """Each provider in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def fresh(environment):
    """Starts gateways of the test's own: `fresh(config=…)`."""
    started = []

    def start(**settings) -> Gateway:
        one = Gateway(**settings)
        started.append(one)
        return one.start()

    yield start
    for one in started:
        one.remove()


@pytest.fixture(scope="module")
def far(environment):
    """The second gateway."""
    with Gateway() as server:
        yield server


@pytest.fixture
def credentials(tmp_path):
    """A credentials file for other gateways of these tests: the profile `far`."""
    path = tmp_path / "credentials"
    path.write_text(f"[far]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    return path


def mount_far(request, far, fresh, credentials, **settings: str) -> tuple[Gateway, str]:
    """A new gateway with a bucket of the test's own, at whose root the bucket of the same name of the gateway `far` is mounted."""
    name = bucket_name(request)
    boto3_client(far).create_bucket(Bucket=name)
    near = fresh()
    boto3_client(near).create_bucket(Bucket=name)
    near.command("mount", "rm", name, "", check=False)
    near.mount(name, "", "s3", endpoint=far.endpoint, bucket=name, credentials_file=str(credentials), profile="far", **settings)
    return near, name


def bucket_name(request) -> str:
    """A bucket name out of the test's name."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")
    return f"{name[:50].strip('-')}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def s3(server):
    """boto3 on the gateway of the test."""
    return boto3_client(server)


@pytest.fixture
def wire(server):
    """Bare sockets on the gateway of the test."""
    return Wire(server.port, ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def bucket(request, s3):
    """A new, empty bucket."""
    name = bucket_name(request)
    s3.create_bucket(Bucket=name)
    return name


class Tool:
    """A command-line client."""

    def __init__(self, *command: str, env: dict[str, str], cwd: pathlib.Path):
        self.command = list(command)
        self.env = env
        self.cwd = cwd

    def __call__(self, *arguments: str, check: bool = True, timeout: float = 300, **options) -> subprocess.CompletedProcess:
        """Runs it; `check` asserts that it ends with 0."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            env=self.env,
            cwd=self.cwd,
            capture_output=True,
            timeout=timeout,
            stdin=None if "input" in options else subprocess.DEVNULL,
            **options,
        )
        if check and done.returncode != 0:
            text = (done.stdout[-2000:] + b"\n" + done.stderr[-4000:]).decode(errors="replace")
            raise AssertionError(f"{self.command[0]} {' '.join(map(str, arguments))[:300]} ended with {done.returncode}:\n{text}")
        return done


def program(name: str) -> str:
    """The path of a client that `compat-tests/run` installs; a skip that nobody overlooks when it is missing."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def client_environment(home: pathlib.Path, server: Gateway) -> dict[str, str]:
    """What the AWS clients read, and nothing of the machine's own."""
    return {
        **gateway_module.clean_environment(),
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }


@pytest.fixture
def home(tmp_path):
    """A home without anybody's configuration."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(params=["v1", "v2"])
def aws(request, server, tmp_path, home):
    """The aws command line: of this Python environment (v1, current), or of the machine (Debian's v2)."""
    if request.param == "v1":
        command = [sys.executable, "-m", "awscli"]
    else:
        found = "/usr/bin/aws"
        if not os.path.exists(found):
            pytest.skip("Debian's awscli is not installed")
        command = [found]
    env = client_environment(home, server)
    tool = Tool(*command, env=env, cwd=tmp_path)
    # Version 2.9 does not know AWS_ENDPOINT_URL yet.
    tool.command += ["--endpoint-url", server.endpoint]
    return tool


@pytest.fixture
def rclone(server, tmp_path, home):
    """rclone with provider Other and no quirk switched on."""
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[s]\ntype = s3\nprovider = Other\naccess_key_id = {ACCESS_KEY}\nsecret_access_key = {SECRET_KEY}\n"
        f"endpoint = {server.endpoint}\nregion = {REGION}\n"
    )
    tool = Tool(program("rclone"), env=client_environment(home, server), cwd=tmp_path)
    tool.command += ["--config", str(config), "--retries", "1", "--low-level-retries", "1"]
    return tool
