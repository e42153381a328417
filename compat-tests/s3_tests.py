"""Drives ceph/s3-tests: configuration, server, run, comparison. Started by s3-tests.sh, which has the instructions."""

import configparser
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import xml.etree.ElementTree

import boto3

import gateway

COMPAT = gateway.ROOT / "docs" / "compat"
PASSING = COMPAT / "s3-tests-passing.txt"
FAILING = COMPAT / "s3-tests-failing.txt"
IAM_PASSING = COMPAT / "s3-tests-iam-passing.txt"
IAM_FAILING = COMPAT / "s3-tests-iam-failing.txt"
# What passes on storage of the gateway's own and not through a mount of this kind.
THROUGH_LOST = {"s3": COMPAT / "s3-tests-through-s3.txt"}

# The tests that AWS itself should pass, less what belongs to Ceph's own set-up.
SELECTION = (
    "not (fails_on_aws or bucket_logging or bucket_logging_cleanup or cloud_transition or cloud_restore or target_by_bucket"
    " or s3website or s3website_routing_rules or s3website_redirect_location or fails_without_logging_rollover or abac_test)"
)

# Of the tests of IAM and STS, all that AWS itself should pass and that need no Keycloak server.
IAM_SELECTION = "not (fails_on_aws or webidentity_test)"

# Tests that want an identity without any other bucket: they are run once more by themselves if the crowd made them fail.
ALONE = ("test_list_buckets_paginated",)

# The suite signs some requests with Version 2 in the Authorization header, which is off by default.
CONFIG = '[s3]\nsignature_v2 = "on"\n'

# New buckets of the near gateway are prefixes of one bucket of the far one.
FAR_BUCKET = "far"
THROUGH_S3 = """
[default_mount]
provider = "s3"
endpoint = "{endpoint}"
bucket = "{bucket}"
prefix = "{{bucket}}/"
credentials_file = "{credentials}"
profile = "far"
answers = "exact"
versions = "true"
"""

# The keys of SSE-KMS that the suite names when its configuration names none, and two that it is given.
KMS_KEYS = {"testkey-1": "61" * 32, "testkey-2": "62" * 32, "sluice-1": "63" * 32, "sluice-2": "64" * 32}

# The location constraint of the suite's buckets. Not us-east-1, whose constraint S3 shows as none.
LOCATION = "eu-west-1"

IDENTITIES = {
    "main": ("SLUICES3TESTSMAIN001", "main/secret/of/the/s3tests/identity/0001"),
    "alt": ("SLUICES3TESTSALT0001", "alt/secret/of/the/s3tests/identity/00001"),
    "tenant": ("SLUICES3TESTSTENANT1", "tenant/secret/of/the/s3tests/identity/01"),
}

# The suite's own name for the user that its policies are about; what Ceph calls a user, AWS calls a user of the account.
IAM_USER = "s3tests-iam-user"


def iam_configuration(server: gateway.Gateway, text: str) -> str:
    """The configuration for the tests of IAM and STS: `iam` is an account, `s3 alt` one of its users, and `iam alt root` another account."""

    def client(service: str, access_key: str, secret_key: str):
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
        return boto3.client(service, endpoint_url=server.endpoint, region_name=gateway.REGION, **keys)

    parser = configparser.RawConfigParser()
    parser.read_string(text)
    main = client("iam", *IDENTITIES["main"])
    main.create_user(UserName=IAM_USER)
    # A user of Ceph may use its own buckets; a user of an account, what a policy says.
    main.attach_user_policy(UserName=IAM_USER, PolicyArn="arn:aws:iam::aws:policy/AmazonS3FullAccess")
    key = main.create_access_key(UserName=IAM_USER)["AccessKey"]
    for name, value in (("user_id", IAM_USER), ("access_key", key["AccessKeyId"]), ("secret_key", key["SecretAccessKey"])):
        parser.set("s3 alt", name, value)
    written = io.StringIO()
    parser.write(written)
    return written.getvalue()


def configuration(server: gateway.Gateway) -> str:
    """The suite's configuration file, with the owners as ListBuckets shows them."""
    sections = [
        f"[DEFAULT]\nhost = 127.0.0.1\nport = {server.port}\nis_secure = False\nssl_verify = False\n",
        "[fixtures]\nbucket prefix = sluice-{random}-\niam name prefix = s3-tests-\niam path prefix = /s3-tests/\n",
    ]
    roles = [("s3 main", "main"), ("s3 alt", "alt"), ("s3 tenant", "tenant")]
    roles += [("iam", "main"), ("iam root", "main"), ("iam alt root", "alt")]
    for section, identity in roles:
        access_key, secret_key = IDENTITIES[identity]
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=gateway.REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )
        owner = client.list_buckets()["Owner"]
        sections.append(
            textwrap.dedent(f"""\
            [{section}]
            display_name = {owner.get("DisplayName", identity)}
            user_id = {owner["ID"]}
            email = {identity}@example.com
            api_name = {LOCATION}
            access_key = {access_key}
            secret_key = {secret_key}
            tenant = {identity}
            kms_keyid = sluice-1
            kms_keyid2 = sluice-2
            """)
        )
    return "\n".join(sections)


def tolerant_copy(checkout: pathlib.Path, to: pathlib.Path) -> None:
    """Copies the suite, with a clean-up that notes and skips a bucket it could not remove (else every later test fails with it)."""
    shutil.copytree(checkout, to, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    init = to / "s3tests" / "functional" / "__init__.py"
    text = init.read_text()
    call = "            nuke_bucket(client, bucket_name)\n"
    assert text.count(call) == 1, "nuke_prefixed_buckets of this checkout looks different: adapt s3_tests.py"
    text = text.replace(
        call,
        "            if bucket_name in _stuck:\n                continue\n"
        "            try:\n                nuke_bucket(client, bucket_name)\n"
        "            except Exception as stuck:\n                _stuck.add(bucket_name)\n"
        "                with open(os.environ['S3TEST_STUCK'], 'a') as log:\n"
        "                    log.write(f'{bucket_name}: {stuck}\\n')\n",
    )
    # A user that is in a group cannot be removed, on AWS neither.
    iam = to / "s3tests" / "functional" / "iam.py"
    text_of_iam, last = iam.read_text(), "    client.delete_user(UserName=name)\n"
    assert text_of_iam.count(last) == 1, "nuke_user of this checkout looks different: adapt s3_tests.py"
    leave = "    for group in client.list_groups_for_user(UserName=name)['Groups']:\n"
    leave += "        client.remove_user_from_group(GroupName=group['GroupName'], UserName=name)\n"
    iam.write_text(text_of_iam.replace(last, leave + last))
    init.write_text(text.replace("def nuke_prefixed_buckets(", "_stuck = set()\n\ndef nuke_prefixed_buckets(", 1))


def results(report: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Outcome and last line of the error, by test."""
    found: dict[str, tuple[str, str]] = {}
    if not report.exists():
        return found
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("name", "")
        outcome, why = "passed", ""
        for kind in ("failure", "error", "skipped"):
            if (node := case.find(kind)) is not None:
                outcome = "skipped" if kind == "skipped" else "failed"
                lines = (node.get("message") or node.text or "").strip().splitlines()
                why = re.sub(r"\s+", " ", lines[0])[:200] if lines else ""
        # A test that passed and then failed in its clean-up is listed twice: the worse outcome counts.
        if found.get(name, ("passed",))[0] == "passed":
            found[name] = (outcome, why)
    return found


def names(path: pathlib.Path) -> list[str]:
    """The tests a list file names: the first word of each line that is no comment."""
    if not path.exists():
        return []
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def reasons(path: pathlib.Path) -> dict[str, str]:
    """The reasons written by hand in the list of failing tests (marked with `=`), kept over an update."""
    kept = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, why = line.partition(" = ")
            if why and not line.startswith("#"):
                kept[name.strip()] = why.strip()
    return kept


def write_lost(outcome: dict[str, tuple[str, str]], path: pathlib.Path, kind: str) -> None:
    """Rewrites the list of what passes without a mount and not through it."""
    known = reasons(path)
    lost = sorted(set(names(PASSING)) & {name for name, (result, _) in outcome.items() if result != "passed"})
    lines = [f"{name} = {known[name]}\n" if name in known else f"{name}  # {outcome[name][0]}: {outcome[name][1]}\n" for name in lost]
    head = f"# ceph/s3-tests, test_s3.py through a mount of the kind {kind}: {len(lost)} of those in {PASSING.name} do not pass. A reason after `=` is kept by --update.\n"
    path.write_text(head + "".join(lines))


def write_lists(outcome: dict[str, tuple[str, str]], passing: pathlib.Path, failing: pathlib.Path, what: str, flags: str) -> None:
    """Rewrites both lists in docs/compat/."""
    COMPAT.mkdir(parents=True, exist_ok=True)
    passed = sorted(name for name, (kind, _) in outcome.items() if kind == "passed")
    others = sorted(name for name, (kind, _) in outcome.items() if kind != "passed")
    head = f"# ceph/s3-tests, {what}: {len(passed)} of {len(outcome)} pass. Written by compat-tests/s3-tests.sh {flags}--update.\n"
    passing.write_text(head + "".join(f"{name}\n" for name in passed))
    known = reasons(failing)
    lines = []
    for name in others:
        kind, why = outcome[name]
        lines.append(f"{name} = {known[name]}\n" if name in known else f"{name}  # {kind}: {why}\n")
    head = f"# ceph/s3-tests, {what}: {len(others)} of {len(outcome)} do not pass. A reason after `=` is kept by --update.\n"
    failing.write_text(head + "".join(lines))


def far_gateway(work: pathlib.Path) -> tuple[gateway.Gateway, str]:
    """A second gateway with a bucket of the first's, and the first one's configuration."""
    far = gateway.Gateway()
    try:
        far.start()
        keys = {"aws_access_key_id": gateway.ACCESS_KEY, "aws_secret_access_key": gateway.SECRET_KEY}
        client = boto3.client("s3", endpoint_url=far.endpoint, region_name=gateway.REGION, **keys)
        client.create_bucket(Bucket=FAR_BUCKET)
        client.put_bucket_versioning(Bucket=FAR_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    except BaseException:
        far.remove()
        raise
    credentials = work / "far-credentials"
    credentials.write_text("[far]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()))
    return far, THROUGH_S3.format(endpoint=far.endpoint, bucket=FAR_BUCKET, credentials=credentials)


def main() -> int:
    arguments = sys.argv[1:]
    through = None
    if "--through" in arguments:
        at = arguments.index("--through")
        through = arguments[at + 1] if at + 1 < len(arguments) else ""
        if through not in THROUGH_LOST:
            print(f"--through takes one of: {', '.join(THROUGH_LOST)}", file=sys.stderr)
            return 2
        del arguments[at : at + 2]
    update = "--update" in arguments
    headers = "--headers" in arguments
    iam = "--iam" in arguments
    arguments = [argument for argument in arguments if argument not in ("--update", "--headers", "--iam")]
    # The lists are about whole modules; how many tests run at a time (-n) changes nothing.
    partial = headers or bool(arguments[2:] if arguments[:1] == ["-n"] else arguments)
    modules = ["test_iam.py", "test_sts.py"] if iam else ["test_headers.py" if headers else "test_s3.py"]
    passing, failing = (IAM_PASSING, IAM_FAILING) if iam else (PASSING, FAILING)
    selection = IAM_SELECTION if iam else SELECTION
    out = gateway.target_dir() / (f"s3-tests-through-{through}" if through else "s3-tests")
    out.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory(prefix="s3-tests-") as work_name:
        work = pathlib.Path(work_name)
        tolerant_copy(pathlib.Path(os.environ["S3TESTS_DIR"]).resolve(), work / "suite")
        keyring = work / "keyring"
        keyring.write_text("".join(f"{name} {key}\n" for name, key in KMS_KEYS.items()))
        keyring.chmod(0o600)
        issuers = "[tokens]\nopenid_http = true\n" if iam else ""
        far, mounted = far_gateway(work) if through else (None, "")
        config = os.environ.get("SLUICE_TEST_CONFIG") or f'{CONFIG}{issuers}[encryption]\nkeyring_file = "{keyring}"\n'
        server = gateway.Gateway(config=config + mounted)
        try:
            server.start()
            for identity, (access_key, secret_key) in IDENTITIES.items():
                server.create_key(f"s3tests-{identity}", access_key, secret_key)
            text = configuration(server)
            (work / "s3tests.conf").write_text(iam_configuration(server, text) if iam else text)
            report = out / "report.xml"
            again = out / "report-alone.xml"
            for old in (report, again):
                old.unlink(missing_ok=True)
            command = [sys.executable, "-m", "pytest", *(f"s3tests/functional/{module}" for module in modules), "-m", selection]
            # A timeout while a report is made would end the whole run.
            command += ["--timeout=120", "-o", "timeout_func_only=true", "-q", "--tb=native", "--no-header", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
            env = gateway.clean_environment()
            env["S3TEST_CONF"] = str(work / "s3tests.conf")
            env["S3TEST_STUCK"] = str(work / "stuck")
            began = time.monotonic()
            with open(out / "pytest.log", "w") as log:
                where = {"cwd": work / "suite", "env": env, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                done = subprocess.run([*command, "-n", "1" if iam else "4", f"--junitxml={report}", *arguments], timeout=1800, **where)
                outcome = results(report)
                crowded = [name for name in ALONE if outcome.get(name, ("passed",))[0] == "failed"]
                if crowded:
                    subprocess.run([*command, f"--junitxml={again}", "-k", " or ".join(crowded)], timeout=300, **where)
                    outcome.update({name: found for name, found in results(again).items() if name in crowded})
            took = time.monotonic() - began
            (out / "gateway.log").write_text(server.log())
            if far:
                (out / "far-gateway.log").write_text(far.log())
            stuck = (work / "stuck").read_text().splitlines() if (work / "stuck").exists() else []
            alive = server.process is not None and server.process.poll() is None
        finally:
            server.remove()
            if far:
                far.remove()

    passed = {name for name, (kind, _) in outcome.items() if kind == "passed"}
    failed = {name for name, (kind, _) in outcome.items() if kind == "failed"}
    (out / "passed.txt").write_text("".join(f"{name}\n" for name in sorted(passed)))
    (out / "failed.txt").write_text("".join(f"{name}  # {outcome[name][1]}\n" for name in sorted(failed)))
    expected = set(names(passing))
    if through:
        expected -= set(names(THROUGH_LOST[through]))
    lost = sorted(expected & set(outcome) - passed)
    gained = sorted(passed - expected)
    print(f"s3-tests: {len(passed)} of {len(outcome)} pass, {len(failed)} fail, in {took:.0f} s; lists and logs in {out}")
    if stuck:
        print(f"{len(stuck)} buckets could not be removed after their test; the first: {stuck[0][:300]}")
    if gained:
        print(f"{len(gained)} pass that are not on the list yet" + ("" if update else ": run with --update to add them"))
    for name in lost:
        print(f"LOST {name}: {outcome[name][1]}")
    missing = sorted(expected - set(outcome))
    if missing and not partial:
        print(f"{len(missing)} tests of the list were not run: {' '.join(missing[:5])} …")
    whole = done.returncode in (0, 1)
    if not whole:
        print(f"pytest ended with {done.returncode}: the run is not complete\n" + (out / "pytest.log").read_text()[-1000:])
    if update and not partial and whole and alive:
        if through:
            write_lost(outcome, THROUGH_LOST[through], through)
        else:
            write_lists(outcome, passing, failing, " and ".join(modules), "--iam " if iam else "")
    if not alive:
        print("the gateway ended during the run; its log:\n" + (out / "gateway.log").read_text()[-2000:])
    print(f"{len(passed)} passed, {len(lost)} failed")
    return 0 if outcome and whole and alive and not lost and not (missing and not partial) else 1


if __name__ == "__main__":
    sys.exit(main())
