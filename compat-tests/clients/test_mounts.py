"""A mount of each kind on a gateway that runs: added, used and removed, or failing, while others go on."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import threading
import time

import pytest
from conftest import ACCESS_KEY, SECRET_KEY, boto3_client
from gateway import POSTGRES, Gateway, free_port
from test_opendal import serving, webdav_command
from test_wasm import PLUGINS, put_plugin
from wire import Wire

KINDS = ["memory", "local", "s3", "webdav", "http", "page", "kv", "stream", "pubsub", "wasm"]
# Those that are somewhere else, and so can be gone.
ELSEWHERE = ["local", "s3", "webdav", "http", "page", "kv"]


class Answering(http.server.BaseHTTPRequestHandler):
    """A web server that has `k` and nothing else, in HTTP/1.1."""

    protocol_version = "HTTP/1.1"
    # What it answers to everything, if that is set: nonsense.
    always: bytes | None = None

    def log_message(self, *_):
        pass

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = self.always or b"web"
        found = self.always is not None or self.path.endswith("/k") or self.path == "/"
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)) if found else "0")
        self.send_header("content-type", "text/html")
        self.end_headers()
        if found and self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PROPFIND = do_MKCOL = answer


@contextlib.contextmanager
def web(port: int, always: bytes | None = None):
    """A web server as long as it is needed."""
    handler = type("Handler", (Answering,), {"always": always})
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Places:
    """Where mounts of each kind can be, all of it on this machine: `kind` and settings, by the names in KINDS."""

    def __init__(self, folder, far: Gateway):
        self.folder, self.far = folder, far
        self.webdav_port, self.web_port = free_port(), free_port()
        (folder / "credentials").write_text(f"[far]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        (folder / "password").write_text("password = w0rd\n")
        (folder / "webdav").mkdir()
        boto3_client(far).create_bucket(Bucket="far")

    def servers(self) -> contextlib.ExitStack:
        """Starts those that are neither files nor a gateway."""
        started = contextlib.ExitStack()
        started.enter_context(serving(webdav_command(self.folder / "webdav", self.webdav_port), self.webdav_port))
        started.enter_context(web(self.web_port))
        return started

    def of(self, name: str, number: int = 0) -> tuple[str, dict[str, str]]:
        """A place that no other number has."""
        folder, own = self.folder, f"{name}{number}"
        # With PostgreSQL in the stage of that name.
        url = POSTGRES or f"sqlite:{folder}/{name}.db"
        space = f"{folder}-{own}"[-200:]
        far = {"endpoint": self.far.endpoint, "bucket": "far", "prefix": f"{own}/"}
        webdav = {"service": "webdav", "endpoint": f"http://127.0.0.1:{self.webdav_port}", "user": "me", "root": f"/{own}"}
        return {
            "memory": ("memory", {"quota_bytes": "10000000"}),
            "local": ("local", {"root": f"{folder}/{own}"}),
            "s3": ("s3", {**far, "credentials_file": f"{folder}/credentials", "profile": "far", "retries": "0"}),
            "webdav": ("opendal", {**webdav, "credentials_file": f"{folder}/password"}),
            "http": ("opendal", {"service": "http", "endpoint": f"http://127.0.0.1:{self.web_port}"}),
            "page": ("page", {"url": url, "space": space}),
            "kv": ("kv", {"url": url, "space": space}),
            "stream": ("stream", {}),
            "pubsub": ("pubsub", {}),
            "wasm": ("wasm", {"plugin": "check", "over": "memory"}),
        }[name]


@pytest.fixture
def places(tmp_path, fresh):
    """All kinds of places, with their servers."""
    made = Places(tmp_path, fresh())
    with made.servers():
        yield made


@contextlib.contextmanager
def load(server: Gateway, prefixes: list[str], least: int):
    """Writes, reads, listings and deletes under each of these prefixes of the bucket `house`, all the while; each must be answered as if
    nothing else went on. It goes on until each has made `least` rounds."""
    over, rounds = threading.Event(), dict.fromkeys(prefixes, 0)

    def turn(prefix: str) -> None:
        wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
        while not over.is_set() or rounds[prefix] < least:
            number = rounds[prefix]
            path, body = f"/house/{prefix}load/{number % 10}", os.urandom(1000) * (1 + number % 40)
            assert wire.send("PUT", path, body).status == 200
            got = wire.send("GET", path)
            assert (got.status, got.body) == (200, body)
            listed = wire.send("GET", "/house", query={"list-type": "2", "prefix": f"{prefix}load/"})
            assert listed.status == 200 and f"{prefix}load/{number % 10}<".encode() in listed.body
            if number % 10 == 9:
                assert wire.send("DELETE", path).status == 204
            rounds[prefix] += 1

    with concurrent.futures.ThreadPoolExecutor(len(prefixes)) as pool:
        turns = [pool.submit(turn, prefix) for prefix in prefixes]
        try:
            yield rounds
        finally:
            over.set()
        for one in turns:
            one.result(120)


def use(wire: Wire, name: str, prefix: str) -> None:
    """What a mount of this kind is there for."""
    path = f"/house/{prefix}k"
    if name == "http":
        got = wire.send("GET", path)
        assert (got.status, got.body) == (200, b"web")
        assert wire.send("PUT", path, b"x").status == 501
        return
    body = os.urandom(2000)
    if name in ("pubsub", "wasm"):
        # Text; and what the plugin refuses begins with an exclamation mark.
        body = body.hex().encode()
    elif name == "stream":
        sent = wire.send("PUT", path, body[:1000], headers={"x-amz-write-offset-bytes": "0"})
        assert sent.status == 200, sent.body
        sent = wire.send("PUT", path, body[1000:], headers={"x-amz-write-offset-bytes": "1000"})
    if name != "stream":
        sent = wire.send("PUT", path, body)
    assert sent.status == 200, sent.body
    got = wire.send("GET", path)
    assert (got.status, got.body) == (200, body)
    listed = wire.send("GET", "/house", query={"list-type": "2", "prefix": prefix})
    assert listed.status == 200 and f"<Key>{prefix}k</Key>".encode() in listed.body, listed.body
    assert wire.send("DELETE", path).status == 204
    assert wire.send("GET", path).status == 404


def house(fresh, **settings) -> Gateway:
    """A gateway with the bucket `house`: files, and objects in memory below `memory/`."""
    server = fresh(**settings)
    boto3_client(server).create_bucket(Bucket="house")
    server.mount("house", "memory/", "memory")
    put_plugin(server, "check", PLUGINS / "check.wasm")
    return server


def test_mounts_come_and_go_under_load(request, fresh, places):
    """A mount of each kind is added, used and removed, and no request to any other mount fails. With --large for a minute, three of each
    kind at a time."""
    large = request.config.getoption("--large")
    server = house(fresh)
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    ends = time.monotonic() + (60 if large else 0)

    def come_and_go(name: str, number: int) -> int:
        prefix, done = f"new/{name}{number}/", 0
        while True:
            kind, settings = places.of(name, number)
            server.mount("house", prefix, kind, **settings)
            use(wire, name, prefix)
            server.command("mount", "rm", "house", prefix)
            # What is asked for now is asked of what lies below.
            assert wire.send("GET", f"/house/{prefix}k").status == 404
            done += 1
            if time.monotonic() >= ends:
                return done

    with load(server, ["", "memory/", "new/"], 20) as rounds, concurrent.futures.ThreadPoolExecutor(len(KINDS) * 3) as pool:
        turns = [pool.submit(come_and_go, name, number) for name in KINDS for number in range(3 if large else 1)]
        done = sum(one.result(300) for one in turns)
    print(f"{done} mounts of {len(KINDS)} kinds came and went during {4 * sum(rounds.values())} requests to others, none of which failed")
    mounts = json.loads(server.command("mount", "ls", "house", "--json").stdout)["mounts"]
    assert [mount["prefix"] for mount in mounts] == ["", "memory/"]
    assert json.loads(server.admin_get("/health/ready")[1])["status"] == "ok"
    server.wait_for_metric("sluice_open_handles", 0, 30)


def test_what_cannot_be_mounted_is_refused_with_its_reason(fresh, places):
    """Of each kind: settings that make no sense, and places that are not there or answer nonsense. Nothing is mounted then, and others
    notice nothing."""
    server = house(fresh)
    folder, nowhere = places.folder, f"http://127.0.0.1:{free_port()}"
    (folder / "garbage").write_bytes(b"this is no database, and was never one\n" * 200)
    (folder / "empty").write_text("")
    nonsense = free_port()
    odd = f"http://127.0.0.1:{nonsense}"
    cases = [
        ("none", {}, "known kinds"),
        ("memory", {"qouta_bytes": "1"}, "quota_bytes"),
        ("memory", {"quota_bytes": "much"}, "much"),
        ("local", {}, "root"),
        ("local", {"root": f"{folder}/garbage"}, "garbage"),
        ("stream", {"window_bytes": "-1"}, "window_bytes"),
        ("pubsub", {"messages": "many"}, "messages"),
        ("kv", {"url": "mysql://x", "space": "s"}, "url"),
        ("kv", {"url": f"sqlite:{folder}/garbage", "space": "s"}, "not a database"),
        ("page", {"url": f"sqlite:{folder}/none/objects.db", "space": "s"}, "open"),
        ("page", {"url": f"postgres://sluice@127.0.0.1:{free_port()}/objects", "space": "s"}, "refused"),
        ("s3", {"endpoint": nowhere}, "bucket"),
        ("s3", {**places.of("s3")[1], "endpoint": nowhere}, "refused"),
        ("s3", {**places.of("s3")[1], "bucket": "no-such-bucket"}, "no such bucket"),
        ("s3", {**places.of("s3")[1], "credentials_file": f"{folder}/empty"}, "empty"),
        ("s3", {**places.of("s3")[1], "endpoint": odd}, "not S3"),
        ("wasm", {"over": "memory"}, "plugin"),
        ("wasm", {"plugin": "../check", "over": "memory"}, "letters"),
        ("wasm", {"plugin": "missing"}, "missing.wasm"),
        ("wasm", {"plugin": "check"}, "over"),
        ("opendal", {"service": "hdfs"}, "hdfs"),
        ("opendal", {**places.of("webdav")[1], "endpoint": nowhere}, "refused"),
        ("opendal", {**places.of("webdav")[1], "endpoint": odd}, "WebDAV"),
        ("opendal", {**places.of("http")[1], "endpoint": nowhere}, "refused"),
    ]
    with load(server, ["", "memory/"], 20), web(nonsense, always=b"<html>come back later</html>"):
        for kind, settings, why in cases:
            pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
            refused = server.command("mount", "add", "house", "bad/", kind, *pairs, check=False)
            told = refused.stdout + refused.stderr
            assert refused.returncode != 0 and why in told and len(told) > 20, (kind, settings, told)
    mounts = json.loads(server.command("mount", "ls", "house", "--json").stdout)["mounts"]
    assert [mount["prefix"] for mount in mounts] == ["", "memory/"]


def test_what_is_gone_fails_by_itself(fresh, tmp_path):
    """A mount of each kind that lies elsewhere, and all of these places gone when the gateway starts: each is named with a reason in the
    health, in the log and by `provider describe`, its keys are answered 503, and others notice nothing. They come back with their places."""
    server, far = house(fresh), fresh()
    (folder := tmp_path / "places").mkdir()
    places = Places(folder, far)
    wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
    with places.servers():
        for name in ELSEWHERE:
            kind, settings = places.of(name)
            server.mount("house", f"{name}/", kind, **settings)
            if name != "http":
                assert wire.send("PUT", f"/house/{name}/k", b"kept").status == 200
    server.stop()
    far.stop()
    gone = [name for name in ELSEWHERE if not (POSTGRES and name in ("page", "kv"))]
    (kept := tmp_path / "kept").mkdir()
    for name in set(gone) & {"local", "page", "kv"}:
        where = folder / ("local0" if name == "local" else f"{name}.db")
        # The journal of a database too.
        for path in folder.glob(f"{where.name}*"):
            path.rename(kept / path.name)
        # Something else is there instead.
        where.write_text("a file where a directory was") if name == "local" else where.mkdir()
    server.start()
    with load(server, ["", "memory/"], 20):
        for name in gone:
            for method, body in (("GET", b""), ("PUT", b"x")):
                answer = wire.send(method, f"/house/{name}/k", body)
                assert answer.status == 503, (name, answer.body)
        said = {"local": "local0", "s3": "refused", "webdav": "refused", "http": "refused", "page": "database", "kv": "database"}
        until = time.monotonic() + 60
        while True:
            _, text = server.admin_get("/health/ready", timeout=30)
            health = json.loads(text)
            failed = {mount["prefix"]: mount["reason"] for mount in health["mounts"]["failed"]}
            assert health["status"] == "degraded" and set(failed) == {f"{name}/" for name in gone}, text
            # While somebody else waits for it, a mount may be said to be silent.
            if all(said[prefix.strip("/")] in reason for prefix, reason in failed.items()):
                break
            assert time.monotonic() < until, text
            time.sleep(0.1)
        described = json.loads(server.command("provider", "describe", "--bucket", "house", "--json").stdout)["mounts"]
        states = {mount["prefix"]: mount["state"] for mount in described}
        assert states[""] == states["memory/"] == "ok" and all(states[prefix] != "ok" for prefix in failed), states
        log = server.log()
        for prefix in failed:
            assert any("mount does not open" in line and prefix in line for line in log.splitlines()), prefix
        # Where they were, as they were, in one step each: a mount that is tried in between would make itself a new place.
        for name in set(gone) & {"local", "page", "kv"}:
            where = folder / ("local0" if name == "local" else f"{name}.db")
            for path in kept.glob(f"{where.name}-*"):
                path.rename(folder / path.name)
            where.unlink() if name == "local" else where.rmdir()
            (kept / where.name).rename(where)
        far.start()
        with places.servers():
            until = time.monotonic() + 60
            for name in gone:
                while (answer := wire.send("GET", f"/house/{name}/k")).status != 200:
                    assert time.monotonic() < until, (name, answer.body, server.log()[-2000:])
                    time.sleep(0.1)
                assert answer.body == (b"web" if name == "http" else b"kept")
