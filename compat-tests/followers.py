"""A hundred clients follow one topic and a hundred one stream, while messages and bytes are added at a steady rate.

    python compat-tests/followers.py --minutes 10

Of each hundred, eighty read events, ten the plain bytes, and ten read events too slowly on purpose. Every one must have every message and
every byte, in order and unchanged, or be told how many it missed; who is not slow must miss none. The memory of the gateway must not grow
once it has warmed up. Ends with 0 when that held. `compat-tests/run followers [MINUTES]` runs it. `--durable` keeps the topic's messages in
a log, and reads them back after a restart.
"""

import argparse
import base64
import collections
import functools
import pathlib
import random
import selectors
import shutil
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))

import boto3
import botocore.config
from gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway
from wire import Wire

RING = 200
WINDOW = 1 << 20
# What a slow follower reads in a second; about a tenth of what comes.
SLOW_BYTES = 2048
# What the gateway may grow by between the second fifth of the time and the last.
MOST_GROWTH = 4 << 20


@functools.lru_cache(maxsize=64)
def page(number: int) -> bytes:
    """The stream has lines of sixteen bytes that count; these are 4096 of them."""
    return b"".join(b"%015x\n" % line for line in range(number * 4096, (number + 1) * 4096))


def written(start: int, end: int) -> bytes:
    """What the stream has at these offsets."""
    first = start >> 16
    pages = page(first) if (end - 1) >> 16 == first else b"".join(page(number) for number in range(first, (max(end - 1, start) >> 16) + 1))
    return pages[start - (first << 16) : end - (first << 16)]


def message(number: int) -> bytes:
    """The message of a number, between one and three kilobytes of it."""
    return b"%d " % number + random.Random(number).randbytes(500 + number * 7919 % 1000).hex().encode()


class Sent:
    """What was published, and when; the last of it, as long as somebody may still be told of it in time."""

    def __init__(self) -> None:
        self.at: collections.OrderedDict[tuple[str, int], float] = collections.OrderedDict()
        self.bodies: collections.OrderedDict[tuple[str, int], bytes] = collections.OrderedDict()
        self.messages = self.bytes = 0
        self.lock = threading.Lock()

    def note(self, kind: str, number: int, body: bytes) -> None:
        """Before it is sent: nobody may have it earlier."""
        with self.lock:
            self.at[kind, number], self.bodies[kind, number] = time.monotonic(), body
            while len(self.at) > 4 * RING:
                self.at.popitem(last=False)
                self.bodies.popitem(last=False)

    def when(self, kind: str, number: int) -> float | None:
        with self.lock:
            return self.at.get((kind, number))

    def body(self, kind: str, number: int) -> bytes | None:
        with self.lock:
            return self.bodies.get((kind, number))


class Follower:
    """One connection, read as bytes come."""

    def __init__(self, server: Gateway, path: str, kind: str, how: str, sent: Sent):
        self.kind, self.how, self.sent = kind, how, sent
        self.name = f"{how} follower of the {kind}"
        # The number of the next message, or the offset of the next byte.
        self.next = 1 if kind == "topic" else 0
        self.missed = self.lags = 0
        self.ended = False
        self.failure: str | None = None
        self.latencies: list[float] = []
        self.raw, self.text = bytearray(), bytearray()
        self.chunk = 0
        self.headless = True
        self.bucket = 0.0
        wire = Wire(server.port, ACCESS_KEY, SECRET_KEY)
        headers = {"host": wire.host} | ({} if how == "plain" else {"accept": "text/event-stream"})
        query = {"follow": "", "since": "0"}
        signed = wire.signer.headers("GET", path, query, headers)
        self.socket = wire.slow_connect(4096) if how == "slow" else wire.connect()
        self.socket.sendall(wire.head("GET", wire.target(path, query), signed))
        self.socket.setblocking(False)

    def read(self, most: int) -> int:
        """Reads what has come, at most so much; answers how much it was."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except OSError as error:
            return self.fail(f"broken off: {error}")
        if not data:
            return 0 if self.ended else self.fail("broken off")
        self.raw += data
        try:
            self.decode()
        except AssertionError as error:
            self.fail(str(error))
        return len(data)

    def fail(self, why: str) -> int:
        self.failure = self.failure or f"{self.name} at {self.next}: {why[:300]}"
        self.ended = True
        return 0

    def decode(self) -> None:
        """The chunks of the transfer encoding (RFC 9112, 7.1)."""
        if self.headless:
            head, found, rest = bytes(self.raw).partition(b"\r\n\r\n")
            if not found:
                return
            assert head.startswith(b"HTTP/1.1 200"), head[:100]
            assert b"transfer-encoding: chunked" in head.lower(), head
            self.headless, self.raw = False, bytearray(rest)
        at, over = 0, False
        while True:
            if self.chunk == 0:
                end = self.raw.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(bytes(self.raw[at:end]).partition(b";")[0], 16)
                at = end + 2
                if size == 0:
                    over = True
                    break
                self.chunk = size + 2
            part = self.raw[at : at + self.chunk]
            if not part:
                break
            data = max(0, min(len(part), self.chunk - 2))
            self.text += part[:data]
            self.chunk -= len(part)
            at += len(part)
        del self.raw[:at]
        if self.how == "plain":
            self.plain()
        else:
            self.events()
        if over:
            # Bytes end in good order only where no more will come; events say so.
            assert self.how == "plain" or self.ended, "the answer ended without the event"
            self.ended = True

    def plain(self) -> None:
        if self.kind == "stream":
            if self.text:
                self.bytes(bytes(self.text))
                self.text.clear()
            return
        while (end := self.text.find(b"\n")) >= 0:
            self.message(self.next, bytes(self.text[:end]))
            del self.text[: end + 1]

    def events(self) -> None:
        while (end := self.text.find(b"\n\n")) >= 0:
            block = bytes(self.text[:end])
            del self.text[: end + 2]
            fields: dict[bytes, list[bytes]] = {}
            for line in block.split(b"\n"):
                if line and not line.startswith(b":"):
                    name, _, value = line.partition(b":")
                    fields.setdefault(name, []).append(value.removeprefix(b" "))
            if fields:
                self.event({name: b"\n".join(values) for name, values in fields.items()})

    def event(self, event: dict[bytes, bytes]) -> None:
        what, data = event.get(b"event"), event.get(b"data", b"")
        if what == b"end":
            self.ended = True
        elif what == b"lagged":
            assert int(data) > 0, event
            self.lags += 1
            self.missed += int(data)
            self.next += int(data)
        else:
            assert what in (None, b"base64"), event
            data = base64.b64decode(data) if what else data
            if self.kind == "topic":
                self.message(int(event[b"id"]), data)
            else:
                assert int(event[b"id"]) == self.next + len(data), f"a gap in silence: {event[b'id']!r} after {len(data)} bytes"
                self.bytes(data)

    def message(self, number: int, body: bytes) -> None:
        assert number == self.next, f"a gap in silence: message {number}"
        wanted = self.sent.body("topic", number) or message(number)
        assert body == wanted, f"other bytes in message {number}: {body[:40]!r}"
        self.next += 1
        self.late(number)

    def bytes(self, data: bytes) -> None:
        assert data == written(self.next, self.next + len(data)), f"other bytes: {data[:40]!r}"
        self.next += len(data)
        self.late(self.next)

    def late(self, number: int) -> None:
        """How long after its PUT began; one in eight is enough."""
        if self.how != "slow" and number % 8 == 0 and (sent := self.sent.when(self.kind, number)) is not None:
            self.latencies.append(time.monotonic() - sent)


def publish(server: Gateway, sent: Sent, until: float, every: float, failures: list[str]) -> None:
    """A message and an append in turn, at a steady rate."""
    s3 = client(server)
    turn, due = 0, time.monotonic()
    chance = random.Random(8)
    while time.monotonic() < until:
        try:
            number = sent.messages + 1
            body = message(number)
            sent.note("topic", number, body)
            answer = s3.put_object(Bucket="live", Key="topics/t", Body=body)
            told = answer["ResponseMetadata"]["HTTPHeaders"]["x-sluice-seq"]
            assert told == str(number), f"message {number} was given number {told}"
            sent.messages = number
            # Whole lines, so that their latency is looked at.
            size = 16 * chance.randrange(32, 192)
            body = written(sent.bytes, sent.bytes + size)
            sent.note("stream", sent.bytes + size, b"")
            s3.put_object(Bucket="live", Key="stream/s", Body=body, WriteOffsetBytes=sent.bytes)
            sent.bytes += size
        except Exception as error:  # noqa: BLE001
            failures.append(f"publisher at turn {turn}: {error!r}")
            return
        turn += 1
        due += every
        time.sleep(max(0.0, due - time.monotonic()))


def client(server: Gateway):
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        config=botocore.config.Config(retries={"max_attempts": 1, "mode": "standard"}, s3={"addressing_style": "path"}),
    )  # fmt: skip


def pump(chosen: selectors.BaseSelector, followers: list[Follower], seconds: float, hurry: bool) -> None:
    """Reads for everybody, the slow ones only as much as is theirs."""
    slow = [follower for follower in followers if follower.how == "slow" and not follower.ended]
    for follower in slow:
        if hurry:
            while not follower.ended and follower.read(1 << 16):
                pass
            continue
        follower.bucket = min(follower.bucket + SLOW_BYTES * seconds, SLOW_BYTES)
        if follower.bucket >= 512:
            follower.bucket -= follower.read(int(follower.bucket))
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for key, _ in chosen.select(left):
            follower = key.data
            follower.read(1 << 18)
            if follower.ended:
                chosen.unregister(follower.socket)
        if not chosen.get_map():
            time.sleep(max(0.0, min(left, 0.05)))
            return


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def slope(samples: list[tuple[float, int]]) -> float:
    """Bytes a second, by least squares."""
    if len(samples) < 3:
        return 0.0
    return statistics.linear_regression([at for at, _ in samples], [float(size) for _, size in samples]).slope


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=10, help="messages, and appends, a second")
    parser.add_argument("--followers", type=int, default=100, help="of the topic, and as many of the stream")
    parser.add_argument("--durable", action="store_true", help="messages survive a restart")
    asked = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-followers-"))
    server = Gateway('[default_mount]\nprovider = "memory"\n')
    failures: list[str] = []
    try:
        server.start()
        client(server).create_bucket(Bucket="live")
        log = {"log": str(folder / "log")} if asked.durable else {}
        server.mount("live", "topics/", "pubsub", messages=str(RING), **log)
        server.mount("live", "stream/", "stream", window_bytes=str(WINDOW))
        sent = Sent()
        sent.messages, sent.bytes = 1, 16
        sent.note("topic", 1, message(1))
        client(server).put_object(Bucket="live", Key="topics/t", Body=message(1))
        client(server).put_object(Bucket="live", Key="stream/s", Body=written(0, 16), WriteOffsetBytes=0)
        slow = plain = asked.followers // 10
        hows = ["events"] * (asked.followers - slow - plain) + ["plain"] * plain + ["slow"] * slow
        followers = [
            Follower(server, f"/live/{path}", kind, how, sent)
            for kind, path in (("topic", "topics/t"), ("stream", "stream/s"))
            for how in hows
        ]
        chosen = selectors.DefaultSelector()
        for follower in followers:
            if follower.how != "slow":
                chosen.register(follower.socket, selectors.EVENT_READ, follower)
        began = time.monotonic()
        until = began + asked.minutes * 60
        publisher = threading.Thread(target=publish, args=(server, sent, until, 1 / asked.rate, failures))
        publisher.start()
        sizes: list[tuple[float, int]] = []
        cpu = server.cpu_seconds()
        while time.monotonic() < until and publisher.is_alive():
            pump(chosen, followers, 0.5, hurry=False)
            sizes.append((time.monotonic() - began, server.memory()))
        publisher.join()
        cpu, took = server.cpu_seconds() - cpu, time.monotonic() - began
        # The end is told to all of them, also to those who are far behind.
        client(server).delete_object(Bucket="live", Key="stream/s")
        if not asked.durable:
            client(server).delete_object(Bucket="live", Key="topics/t")

        def done(follower: Follower) -> bool:
            return follower.ended or (asked.durable and follower.kind == "topic" and follower.next > sent.messages)

        deadline = time.monotonic() + 120
        while not all(map(done, followers)) and time.monotonic() < deadline:
            pump(chosen, followers, 0.2, hurry=True)
        for follower in followers:
            end = sent.messages + 1 if follower.kind == "topic" else sent.bytes
            if not done(follower):
                follower.fail("was not told of the end")
            elif follower.failure is None and follower.next != end:
                follower.fail(f"the end came early: it is {end}")
            elif follower.how != "slow" and follower.missed:
                follower.fail(f"missed {follower.missed} though it was not slow")
        failures += [follower.failure for follower in followers if follower.failure]
        if asked.durable:
            failures += durable(server, sent)
        late = [one for follower in followers for one in follower.latencies]
        lagged = [follower for follower in followers if follower.lags]
        if asked.minutes >= 3 and not any(follower.lags for follower in followers if follower.how == "slow"):
            failures.append("the slow followers were not slow enough to miss anything: this shows nothing")
        warm = [sample for sample in sizes if sample[0] >= took / 5]
        fifth = max(1, len(sizes) // 5)
        growth = statistics.median(size for _, size in sizes[-fifth:]) - statistics.median(size for _, size in sizes[fifth : 2 * fifth] or sizes)
        if growth > MOST_GROWTH:
            failures.append(f"the gateway grew by {growth / 1e6:.1f} MB")
        mib = 1 << 20
        print(f"{took:.0f} s, {len(followers)} followers, {sent.messages} messages, {sent.bytes / mib:.1f} MiB of stream; {len(failures)} failures")
        print(
            f"latency from the PUT to a follower: p50 {percentile(late, 0.5) * 1e3:.1f} ms, p99 {percentile(late, 0.99) * 1e3:.1f} ms,"
            f" longest {max(late, default=0) * 1e3:.1f} ms ({len(late)} looked at)"
        )
        print(
            f"{len(lagged)} followers were told {sum(follower.lags for follower in lagged)} times what they missed;"
            f" {sum(f.missed for f in lagged if f.kind == 'topic')} messages and {sum(f.missed for f in lagged if f.kind == 'stream')} bytes in all"
        )
        print(
            f"memory {sizes[0][1] / mib:.1f} MiB at first, {sizes[-1][1] / mib:.1f} at last, growth once warm {growth / mib:+.2f} MiB"
            f" (slope {slope(warm) * 3600 / mib:+.1f} MiB an hour); processor {100 * cpu / took:.1f} % of one"
        )
        for line in failures[:20]:
            print(f"  {line}")
        return 1 if failures else 0
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


def durable(server: Gateway, sent: Sent) -> list[str]:
    """After a kill, the last messages are there, and their numbers go on."""
    server.kill()
    server.start()
    s3 = client(server)
    got = s3.get_object(Bucket="live", Key="topics/t")["Body"].read()
    wanted = b"\n".join(message(number) for number in range(max(1, sent.messages - RING + 1), sent.messages + 1))
    answer = s3.put_object(Bucket="live", Key="topics/t", Body=b"one more")
    told = answer["ResponseMetadata"]["HTTPHeaders"]["x-sluice-seq"]
    failures = [] if got == wanted else [f"after a restart the topic has other messages: {got[:60]!r}"]
    return failures if told == str(sent.messages + 1) else [*failures, f"after a restart message {sent.messages + 1} is {told}"]


if __name__ == "__main__":
    sys.exit(main())
