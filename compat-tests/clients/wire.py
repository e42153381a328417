"""HTTP/1.1 on a bare socket: what a well-behaved client library would refuse to send."""

import dataclasses
import http.client
import socket
import xml.etree.ElementTree

import sigv4


@dataclasses.dataclass
class Answer:
    """An answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value."""
        return self.headers.get(name)

    @property
    def error(self) -> dict[str, str]:
        """The fields of an S3 error document."""
        assert self.header("content-type") == "application/xml", f"{self.status} {self.headers}"
        root = xml.etree.ElementTree.fromstring(self.body)
        assert root.tag == "Error", self.body
        return {child.tag: child.text or "" for child in root}

    def is_error(self, status: int, code: str, resource: str | None = None) -> None:
        """Asserts a complete S3 error."""
        assert self.status == status, f"{self.status}: {self.body[:600]!r}"
        error = self.error
        assert error["Code"] == code, error
        assert error["Message"]
        assert error["RequestId"] and error["RequestId"] == self.header("x-amz-request-id"), (error, str(self.headers))
        assert error["HostId"] and error["HostId"] == self.header("x-amz-id-2"), (error, str(self.headers))
        if resource is not None:
            assert error["Resource"] == resource, error


class Wire:
    """A signing client that keeps no manners."""

    def __init__(self, port: int, access_key: str, secret_key: str, region: str = "us-east-1"):
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.signer = sigv4.Signer(access_key, secret_key, region)

    def connect(self, timeout: float = 60) -> socket.socket:
        """A fresh connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def slow_connect(self, receive_buffer: int, timeout: float = 60) -> socket.socket:
        """A connection for who reads slowly, with that much room for what was sent and not read. Its segments are small: those of a loopback
        are as large as all of the room, and a window that is never wide enough for one opens when the sender's timer asks, ever later."""
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(timeout)
        connection.connect(("127.0.0.1", self.port))
        return connection

    @staticmethod
    def head(method: str, target: str, headers: dict[str, str]) -> bytes:
        """The head of a request, exactly as given."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")

    @staticmethod
    def read(connection: socket.socket, method: str = "GET") -> Answer:
        """Reads one answer."""
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return Answer(answer.status, answer.headers, answer.read())

    def target(self, path: str, query: dict[str, str] | None) -> str:
        """The request target."""
        if not query:
            return path
        return path + "?" + "&".join(f"{sigv4.quote(name)}={sigv4.quote(value)}" for name, value in query.items())

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        length: int | None = -1,
        late: dict[str, str] | None = None,
        host: str | None = None,
        **signing,
    ) -> Answer:
        """Signs, sends and reads. `length`: -1 the body's own, None no Content-Length; `late` headers are added unsigned."""
        given = {"host": host or self.host, **(headers or {})}
        if length is not None and (body or method in ("PUT", "POST")):
            given["content-length"] = str(len(body) if length == -1 else length)
        signed = self.signer.headers(method, path, query, given, **signing)
        with self.connect() as connection:
            connection.sendall(self.head(method, self.target(path, query), {**signed, **(late or {})}) + body)
            if length not in (None, -1) and length > len(body):
                connection.shutdown(socket.SHUT_WR)
            return self.read(connection, method)

    def plain(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Sends without signing, e.g. a presigned target."""
        given = {"host": self.host, **(headers or {})}
        if (body or method in ("PUT", "POST")) and "content-length" not in {name.lower() for name in given}:
            given["content-length"] = str(len(body))
        with self.connect() as connection:
            connection.sendall(self.head(method, target, given) + body)
            return self.read(connection, method)

    def chunked(
        self,
        path: str,
        chunks: list[bytes],
        mode: str,
        algorithm: str | None = None,
        value: str | None = None,
        headers: dict[str, str] | None = None,
        declared: int | None = None,
        terminal: bool = True,
        trailer: bool = True,
        wrong_chunk: int | None = None,
    ) -> Answer:
        """A PUT in one of the aws-chunked modes. `trailer=False` leaves out a declared trailer; `declared` is a false length."""
        data = b"".join(chunks)
        given = {
            "host": self.host,
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(len(data) if declared is None else declared),
            **(headers or {}),
        }
        last = None
        if algorithm:
            name = f"x-amz-checksum-{algorithm.lower()}"
            given["x-amz-trailer"] = name
            last = (name, value if value is not None else sigv4.checksum(algorithm, data))
        sent_trailer = last if trailer else None
        when = sigv4.now()
        dummy = "Signature=" + "0" * 64
        if mode == sigv4.UNSIGNED_TRAILER:
            length = len(sigv4.unsigned_chunks(chunks, sent_trailer, terminal))
        else:
            length = len(self.signer.chunks(chunks, dummy, when, sent_trailer, wrong_chunk, terminal))
        given["content-length"] = str(length)
        signed = self.signer.headers("PUT", path, None, given, payload=mode, when=when)
        if mode == sigv4.UNSIGNED_TRAILER:
            body = sigv4.unsigned_chunks(chunks, sent_trailer, terminal)
        else:
            body = self.signer.chunks(chunks, signed["Authorization"], when, sent_trailer, wrong_chunk, terminal)
        with self.connect() as connection:
            connection.sendall(self.head("PUT", path, signed) + body)
            return self.read(connection, "PUT")
