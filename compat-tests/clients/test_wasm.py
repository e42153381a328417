"""Plugins through the gateway: built of the samples in `providers/wasm/samples`, and such as break every limit there is.

The compilers come from their registries: componentize-qjs from npm (JavaScript), clang, lld and wasi-libc from Debian (C), componentize-py
from PyPI (Python); for Rust the target wasm32-wasip2 has to be installed. Where one cannot be had its tests are skipped, and say so. A
plugin with CPython in it has 18 MB, which a gateway that is not optimized compiles for many minutes: only the large tests mount it. What needs no language uses the plugins in
`plugins/`, a few kilobytes each; `providers/wasm/tests/authoriser.rs` makes sure that they are of the texts in `providers/wasm/tests/plugins`.
"""

import concurrent.futures
import fcntl
import os
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
import venv

import pytest
from conftest import boto3_client, bucket_name, program
from gateway import ROOT, clean_environment, target_dir
from test_conditions import code

WASM = ROOT / "providers" / "wasm"
QJS = "componentize-qjs@0.4.5"
PY = "componentize-py==0.25.1"
PLUGINS = pathlib.Path(__file__).parent / "plugins"

# As in the guide, docs/providers/wasm.md.
NO_SECRETS = """
export const writeCheck = {
  check(key, object) {
    if (String.fromCharCode(...object.body).includes("secret")) throw { tag: "denied" };
  },
};
"""

INSIDE = """
export const authorise = {
  decide(request) {
    // Nobody writes here from outside, whoever they are.
    const inside = (request.sourceAddress ?? "").startsWith("10.");
    return inside || ["GetObject", "HeadObject"].includes(request.operation) ? "abstain" : "deny";
  },
};
"""


# Runs before all else in a plugin, and ends it when it gets at anything.
REACHES = r"""
#include <stdio.h>

__attribute__((constructor)) static void reaches(void) {
  if ((puts("hello") >= 0 && fflush(stdout) == 0) || fopen("/etc/passwd", "r") != NULL) __builtin_trap();
}
"""


def attempt(command: list, what: str, **options) -> None:
    """Runs what needs a registry; a skip that nobody overlooks where that cannot be had."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, stdin=subprocess.DEVNULL, env=clean_environment(), **options)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what}: it took more than 300 s")
    if done.returncode != 0:
        pytest.skip(f"{what}: {(done.stderr or done.stdout).decode(errors='replace').strip()[-300:]}")


def run(*command, **options) -> None:
    """Runs what has to work."""
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=300, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-4000:]


def installed(name: str, made: str, install) -> pathlib.Path:
    """A program of the build directory, installed once, whoever else wants it at the same time."""
    place = target_dir() / "plugin-tools" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f"{name}.lock"), "w") as lock:
        # Ends with the file.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / made).exists():
            shutil.rmtree(place, ignore_errors=True)
            install(place)
    assert (place / made).exists(), f"{name} did not bring {made}"
    return place / made


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Makes a plugin of a JavaScript module."""
    program("node")
    npm = program("npm")

    def install(place):
        attempt([npm, "install", "--no-audit", "--no-fund", "--prefix", str(place), QJS], f"{QJS} is not to be had")

    compiler = installed(f"javascript-{QJS.rpartition('@')[2]}", "node_modules/.bin/componentize-qjs", install)

    def make(source: str, world: str) -> pathlib.Path:
        place = tmp_path_factory.mktemp("plugin")
        (place / "plugin.js").write_text(source)
        run(compiler, "--sync", "--opt-size", "--stub-wasi", "--wit", WASM / "wit", "--world", world, "--js", place / "plugin.js", "--output", place / "plugin.wasm")
        return place / "plugin.wasm"

    return make


def put_plugin(server, name: str, wasm: pathlib.Path) -> None:
    """Puts a plugin into the plugin directory, whole at once."""
    directory = server.data_dir / "plugins"
    directory.mkdir(exist_ok=True)
    shutil.copy(wasm, directory / f".{name}")
    os.rename(directory / f".{name}", directory / f"{name}.wasm")


def mount(server, bucket: str, prefix: str, kind: str = "wasm", **settings: str) -> None:
    """Mounts what has a plugin, when that is compiled."""
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    until = time.monotonic() + 300
    while True:
        done = server.command("mount", "add", bucket, prefix, kind, *pairs, check=False)
        if done.returncode == 0:
            return
        late = "being compiled" in done.stderr or "TimedOut" in done.stderr
        assert late and time.monotonic() < until, done.stderr
        time.sleep(0.1)


def says_hello(server, bucket: str, wasm: pathlib.Path, name: str) -> None:
    """What the sample does, in whatever language it is written."""
    put_plugin(server, name, wasm)
    s3 = boto3_client(server)
    s3.create_bucket(Bucket=bucket)
    mount(server, bucket, "greet/", plugin=name, timeout_ms="20000")
    mount(server, bucket, "hi/", plugin=name, timeout_ms="20000", **{"config.greeting": "Hi ✓"})
    got = s3.get_object(Bucket=bucket, Key="greet/hello")
    assert got["Body"].read() == b"Hello, World!\n" and got["ContentType"] == "text/plain; charset=utf-8"
    assert s3.get_object(Bucket=bucket, Key="hi/hello")["Body"].read() == "Hi ✓\n".encode()
    head = s3.head_object(Bucket=bucket, Key="greet/hello")
    assert (head["ContentLength"], head["ETag"]) == (14, got["ETag"])
    assert s3.get_object(Bucket=bucket, Key="greet/hello", Range="bytes=7-11")["Body"].read() == b"World"
    assert code(s3.get_object, Bucket=bucket, Key="greet/hello", IfMatch='"other"') == "PreconditionFailed"
    assert code(s3.get_object, Bucket=bucket, Key="greet/none") == "NoSuchKey"
    assert code(s3.put_object, Bucket=bucket, Key="greet/hello", Body=b"x") == "AccessDenied"
    listed = s3.list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == ["greet/hello", "hi/hello"]
    for prefix in ("greet/", "hi/"):
        server.command("mount", "rm", bucket, prefix)


def test_hello_in_javascript(request, local, javascript):
    """The sample of the guide."""
    wasm = javascript((WASM / "samples/javascript/hello.js").read_text(), "provider")
    says_hello(local, bucket_name(request), wasm, "hello-javascript")


def componentize_c() -> pathlib.Path:
    """The tool for C: that which `compat-tests/run` builds, or one that is built now."""
    if built := os.environ.get("COMPONENTIZE_C"):
        return pathlib.Path(built)
    run("cargo", "build", "--quiet", "--ignore-rust-version", "--package", "componentize-c", cwd=ROOT)
    return target_dir() / "debug" / "componentize-c"


def test_hello_in_c(request, local, tmp_path):
    """The same in C, with a C library and without WASI."""
    clang = program("clang")
    program("wasm-ld")
    libc = [clang, "--target=wasm32-wasi", "-fsyntax-only", "-x", "c", "-include", "stdlib.h", "/dev/null"]
    attempt(libc, "there is no C library for wasm32-wasi (wasi-libc): the C sample is not built")
    tool, made = componentize_c(), tmp_path / "made"
    run(tool, "bindings", WASM / "wit", "provider", made)
    flags = ["--target=wasm32-wasi", "-mexec-model=reactor", "-nodefaultlibs", "-Os", "-Wall", "-Wextra", "-Werror", "-I", made]
    sources = [WASM / "samples/c/hello.c", made / "provider.c", made / "provider_component_type.o"]
    run(clang, *flags, *sources, "-lc", "-o", made / "hello.wasm")
    run(tool, "component", made / "hello.wasm", tmp_path / "hello.wasm")
    bucket = bucket_name(request)
    says_hello(local, bucket, tmp_path / "hello.wasm", "hello-c")
    # What the C library does beyond that fails, and the plugin goes on.
    (tmp_path / "reaches.c").write_text(REACHES)
    run(clang, *flags, *sources, tmp_path / "reaches.c", "-lc", "-o", made / "reaches.wasm")
    run(tool, "component", made / "reaches.wasm", tmp_path / "reaches.wasm")
    put_plugin(local, "reaches", tmp_path / "reaches.wasm")
    mount(local, bucket, "reaches/", plugin="reaches", timeout_ms="20000")
    assert boto3_client(local).get_object(Bucket=bucket, Key="reaches/hello")["Body"].read() == b"Hello, World!\n"
    local.command("mount", "rm", bucket, "reaches/")


@pytest.mark.large
def test_a_check_and_an_authoriser_in_javascript(request, local, javascript):
    """The other plugins of the guide."""
    put_plugin(local, "no-secrets", javascript(NO_SECRETS, "check"))
    put_plugin(local, "inside", javascript(INSIDE, "authoriser"))
    bucket, s3 = bucket_name(request), boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    mount(local, bucket, "safe/", plugin="no-secrets", over="memory", timeout_ms="20000")
    s3.put_object(Bucket=bucket, Key="safe/a", Body=b"public")
    assert code(s3.put_object, Bucket=bucket, Key="safe/a", Body=b"a secret") == "AccessDenied"
    mount(local, bucket, "reports/", "memory", authorise="inside", **{"authorise.timeout_ms": "20000"})
    assert code(s3.put_object, Bucket=bucket, Key="reports/a", Body=b"x") == "AccessDenied"
    assert code(s3.get_object, Bucket=bucket, Key="reports/a") == "NoSuchKey"
    for prefix in ("safe/", "reports/"):
        local.command("mount", "rm", bucket, prefix)


def test_hello_in_python(request, local, tmp_path):
    """The same in Python: built always, and with --large mounted and read."""

    def install(place):
        venv.create(place, with_pip=True)
        attempt([str(place / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", PY], f"{PY} is not to be had")

    compiler = installed(f"python-{PY.rpartition('=')[2]}", "bin/componentize-py", install)
    made = tmp_path / "hello.wasm"
    run(compiler, "-d", WASM / "wit", "-w", "provider", "componentize", "--stub-wasi", "-p", WASM / "samples/python", "hello", "-o", made)
    built = made.read_bytes()
    # A component, not a module, of the world that was asked for.
    assert built.startswith(b"\0asm\x0d\0\x01\0") and b"sluice:provider/objects@" in built
    if request.config.getoption("--large"):
        says_hello(local, bucket_name(request), made, "hello-python")


def test_hello_in_rust(request, local, tmp_path):
    """The same in Rust, where the target is installed."""
    rustc = program("rustc")
    sysroot = subprocess.run([rustc, "--print", "sysroot"], capture_output=True, check=True, text=True).stdout.strip()
    if not (pathlib.Path(sysroot) / "lib/rustlib/wasm32-wasip2").is_dir():
        pytest.skip("the target wasm32-wasip2 is not installed (rustup target add wasm32-wasip2): the Rust sample is not built")
    source = tmp_path / "wasm"
    shutil.copytree(WASM / "wit", source / "wit")
    shutil.copytree(WASM / "samples/rust", source / "samples/rust")
    build = ["cargo", "build", "--release", "--target", "wasm32-wasip2", "--target-dir", str(tmp_path / "target")]
    attempt(build, "the Rust sample is not built", cwd=source / "samples/rust")
    says_hello(local, bucket_name(request), tmp_path / "target/wasm32-wasip2/release/hello.wasm", "hello-rust")


# What a GET of the plugin does, by the first letter of the key, and what the client sees of it.
BREAKS = {
    "loop": "ServiceUnavailable",
    "memory": "ServiceUnavailable",
    "stack": "ServiceUnavailable",
    "trap": "ServiceUnavailable",
    "wrong size": "InternalError",
    "etag that is none": "InternalError",
    "pointer to nowhere": "InternalError",
    "oversized body": "InternalError",
    "body of 16 MiB": "InternalError",
    "forbidden attribute": "InternalError",
    "x": "NoSuchKey",
}


def test_each_limit_is_the_limit_of_its_mount(request, local):
    """Loops, memory, traps and nonsense are errors of the mount of the plugin, and every other mount goes on undisturbed meanwhile."""
    put_plugin(local, "unruly", PLUGINS / "unruly.wasm")
    bucket, s3 = bucket_name(request), boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    limits = {"instructions": "20000000", "memory_bytes": "33554432", "max_body_bytes": "1000", "timeout_ms": "20000"}
    mount(local, bucket, "bad/", plugin="unruly", **limits)
    stop = threading.Event()

    def goes_on() -> int:
        calls = 0
        mine = boto3_client(local)
        while not stop.is_set() or calls == 0:
            mine.put_object(Bucket=bucket, Key=f"files/{calls % 10}", Body=b"%d" % calls)
            assert mine.get_object(Bucket=bucket, Key=f"files/{calls % 10}")["Body"].read() == b"%d" % calls
            calls += 1
        return calls

    with concurrent.futures.ThreadPoolExecutor() as pool:
        others = pool.submit(goes_on)
        try:
            good = {"Bucket": bucket, "Key": "bad/hello"}
            assert s3.get_object(**good)["Body"].read() == b"hello"
            for key, expected in BREAKS.items():
                assert code(s3.get_object, Bucket=bucket, Key=f"bad/{key}") == expected, key
                assert s3.get_object(**good)["Body"].read() == b"hello", f"after {key}"
            assert code(s3.list_objects_v2, Bucket=bucket, Prefix="bad/") == "InternalError", "keys out of order"
        finally:
            stop.set()
        assert others.result(60) > 0
    assert code(s3.put_object, Bucket=bucket, Key="bad/put", Body=bytes(1001)) == "EntityTooLarge"
    local.command("mount", "rm", bucket, "bad/")


def test_a_transform_is_swapped_and_a_check_stands(request, local):
    """What is read is what the plugin of now makes of it, without a failed request; what the check refuses is not written."""
    bucket, s3 = bucket_name(request), boto3_client(local)
    s3.create_bucket(Bucket=bucket)
    put_plugin(local, "shout", PLUGINS / "shout-a.wasm")
    put_plugin(local, "check", PLUGINS / "check.wasm")
    below = {"over.timeout_ms": "20000", "over.plugin": "check", "over.over": "memory"}
    mount(local, bucket, "loud/", plugin="shout", over="wasm", timeout_ms="20000", **below)
    where = {"Bucket": bucket, "Key": "loud/a"}
    put = s3.put_object(**where, Body=b"xyz", ContentType="text/plain")
    got = s3.get_object(**where)
    assert (got["Body"].read(), got["ContentType"], got["ETag"]) == (b"ayz", "text/x-made", put["ETag"])
    assert s3.head_object(**where)["ContentLength"] == 3
    assert code(s3.put_object, **where, Body=b"! is refused") == "AccessDenied"
    assert code(s3.copy_object, Bucket=bucket, Key="loud/b", CopySource={"Bucket": bucket, "Key": "loud/none"}) == "NoSuchKey"
    assert code(s3.create_multipart_upload, Bucket=bucket, Key="loud/parts") == "NotImplemented"
    put_plugin(local, "shout", PLUGINS / "shout-b.wasm")
    until = time.monotonic() + 300
    while time.monotonic() < until:
        body = s3.get_object(**where)["Body"].read()
        assert body in (b"ayz", b"byz")
        if body == b"byz":
            break
    assert body == b"byz" and s3.head_object(**where)["ETag"] != put["ETag"]
    # The check is gone: nothing gets past it.
    (local.data_dir / "plugins/check.wasm").unlink()
    while time.monotonic() < until and code(s3.put_object, **where, Body=b"x") != "ServiceUnavailable":
        pass
    assert code(s3.put_object, **where, Body=b"x") == "ServiceUnavailable"
    local.command("mount", "rm", bucket, "loud/")


def test_an_authoriser_decides(request, fresh):
    """A mount is closed to whom its authoriser refuses, the owner among them, and to everybody while that cannot be asked."""
    server = fresh()
    bucket, s3 = bucket_name(request), boto3_client(server)
    s3.create_bucket(Bucket=bucket)
    refused = server.command("mount", "add", bucket, "safe/", "memory", "--set", "authorise=guard", check=False)
    assert refused.returncode != 0 and "guard.wasm" in refused.stderr, refused.stderr
    put_plugin(server, "guard", PLUGINS / "authoriser.wasm")
    limits = {"authorise.instructions": "20000000", "authorise.memory_bytes": "33554432", "authorise.timeout_ms": "20000"}
    root = server.work / "safe"
    mount(server, bucket, "safe/", "local", root=str(root), authorise="guard", **limits)
    where = {"Bucket": bucket, "Key": "safe/a"}
    s3.put_object(**where, Body=b"x")
    assert s3.get_object(**where)["Body"].read() == b"x"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["safe/a"]
    denied = {"Bucket": bucket, "Key": "safe/d"}
    assert code(s3.get_object, **denied) == code(s3.put_object, **denied, Body=b"x") == "AccessDenied"
    assert code(s3.list_objects_v2, Bucket=bucket, Prefix="safe/d") == "AccessDenied"
    assert code(s3.copy_object, Bucket=bucket, Key="copy", CopySource=denied) == "AccessDenied"
    presigned = s3.generate_presigned_url("get_object", denied)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(presigned, timeout=30)
    # By the operation: r may be read.
    assert code(s3.put_object, Bucket=bucket, Key="safe/r", Body=b"x") == "AccessDenied"
    assert code(s3.get_object, Bucket=bucket, Key="safe/r") == "NoSuchKey"
    for key, expected in {
        "l": "ServiceUnavailable",
        "m": "ServiceUnavailable",
        "t": "ServiceUnavailable",
        "w": "InternalError",
    }.items():
        assert code(s3.put_object, Bucket=bucket, Key=f"safe/{key}", Body=b"x") == expected, key
        assert s3.get_object(**where)["Body"].read() == b"x", f"after {key}"
        s3.put_object(Bucket=bucket, Key=key, Body=b"another mount")
    # A gateway that comes up without the plugin, or loses it, lets nothing through; the mount beside it goes on.
    server.stop()
    guard = server.data_dir / "plugins/guard.wasm"
    guard.unlink()
    server.start()
    assert code(s3.get_object, **where) == "ServiceUnavailable"
    assert s3.get_object(Bucket=bucket, Key="l")["Body"].read() == b"another mount"
    put_plugin(server, "guard", PLUGINS / "authoriser.wasm")
    until = time.monotonic() + 60
    while time.monotonic() < until and code(s3.head_object, **where):
        time.sleep(0.1)
    assert s3.get_object(**where)["Body"].read() == b"x"
    assert code(s3.get_object, **denied) == "AccessDenied"


def test_what_is_no_plugin_is_refused(request, local):
    """A mount of what is missing or none says what is wrong, and is not made."""
    bucket = bucket_name(request)
    boto3_client(local).create_bucket(Bucket=bucket)
    (local.data_dir / "plugins").mkdir(exist_ok=True)
    (local.data_dir / "plugins/text.wasm").write_text("no plugin")
    for plugin, reason in (("absent", "absent.wasm"), ("text", "text.wasm"), ("../text", "letters")):
        refused = local.command("mount", "add", bucket, "x/", "wasm", "--set", f"plugin={plugin}", check=False)
        assert refused.returncode != 0 and reason in refused.stderr, refused.stderr
    described = local.command("provider", "describe", "wasm").stdout
    assert "config.NAME" in described
