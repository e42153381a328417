"""A provider with one object in it: GET hello answers the greeting of the mount."""

import zlib

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.objects import Entry, Page
from wit_world.imports import settings
from wit_world.imports.types import Failure_Denied, Failure_NotFound, Info, Object

KEY = "hello"
MODIFIED = 1700000000  # seconds since 1970


def greeting() -> Object:
    body = ((settings.get("greeting") or "Hello, World!") + "\n").encode()
    # Another tag whenever the bytes are others.
    info = Info(len(body), f"{zlib.crc32(body):08x}", MODIFIED, [("content-type", "text/plain; charset=utf-8")])
    return Object(info, body)


class Objects(exports.Objects):
    """What is returned is the result; a failure is raised."""

    def head(self, key: str) -> Info:
        return self.get(key).info

    def get(self, key: str) -> Object:
        if key != KEY:
            raise Err(Failure_NotFound())
        return greeting()

    def put(self, key: str, object: Object) -> None:
        raise Err(Failure_Denied())

    def delete(self, key: str) -> int | None:
        raise Err(Failure_Denied())

    def list(self, prefix: str, start: str, limit: int) -> Page:
        info = greeting().info
        wanted = KEY.startswith(prefix) and KEY >= start
        return Page([Entry(KEY, info.size, info.etag, info.modified)] if wanted else [], False)
