"""AWS Signature Version 4, written from its specification, with every part open to be made wrong by a test.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
"""

import base64
import datetime
import hashlib
import hmac
import json
import urllib.parse
import zlib

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def quote(text: str, safe: str = "") -> str:
    """Percent-encoding as the signature wants it."""
    return urllib.parse.quote(text, safe=safe + "-_.~")


def now() -> datetime.datetime:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(when: datetime.datetime) -> str:
    """x-amz-date."""
    return when.strftime("%Y%m%dT%H%M%SZ")


class Signer:
    """Signs for one access key."""

    def __init__(self, access_key: str, secret_key: str, region: str = "us-east-1"):
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region

    def _scope(self, when: datetime.datetime) -> str:
        return f"{when:%Y%m%d}/{self.region}/s3/aws4_request"

    def _signature(self, when: datetime.datetime, kind: str, text: str) -> str:
        key = b"AWS4" + self.secret_key.encode()
        for part in self._scope(when).split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = f"{kind}\n{stamp(when)}\n{self._scope(when)}\n{text}"
        return hmac.digest(key, to_sign.encode(), "sha256").hex()

    def _request(self, method: str, path: str, query: dict, headers: dict, signed: list[str], payload: str, when) -> str:
        canonical_query = "&".join(f"{quote(name)}={quote(value)}" for name, value in sorted(query.items()))
        lower = {name.lower(): " ".join(str(value).split()) for name, value in headers.items()}
        canonical_headers = "".join(f"{name}:{lower[name]}\n" for name in signed)
        canonical = "\n".join([method, path, canonical_query, canonical_headers, ";".join(signed), payload])
        return self._signature(when, "AWS4-HMAC-SHA256", hashlib.sha256(canonical.encode()).hexdigest())

    def headers(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        payload: str = UNSIGNED,
        when: datetime.datetime | None = None,
        unsigned: tuple[str, ...] = (),
    ) -> dict[str, str]:
        """The headers with Authorization added. `path` is percent-encoded already; `unsigned` names headers left out."""
        when = when or now()
        out = {**(headers or {}), "x-amz-date": stamp(when), "x-amz-content-sha256": payload}
        signed = sorted({name.lower() for name in out} - {name.lower() for name in unsigned})
        signature = self._request(method, path, query or {}, out, signed, payload, when)
        out["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self._scope(when)},"
            f"SignedHeaders={';'.join(signed)},Signature={signature}"
        )
        return out

    def presign(
        self,
        method: str,
        host: str,
        path: str,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        expires: int | str = 900,
        when: datetime.datetime | None = None,
    ) -> str:
        """A presigned path and query. `headers` are those the client will have to send."""
        when = when or now()
        sent = {**(headers or {}), "host": host}
        signed = sorted(name.lower() for name in sent)
        full = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{self._scope(when)}",
            "X-Amz-Date": stamp(when),
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": ";".join(signed),
        }
        full["X-Amz-Signature"] = self._request(method, path, full, sent, signed, UNSIGNED, when)
        return path + "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in full.items())

    def post_policy(self, policy: dict, when: datetime.datetime | None = None) -> dict[str, str]:
        """The form fields that sign a POST policy document; the document's own conditions must allow them."""
        when = when or now()
        fields = {
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{self.access_key}/{self._scope(when)}",
            "x-amz-date": stamp(when),
        }
        document = {**policy, "conditions": policy["conditions"] + [{name: value} for name, value in fields.items()]}
        encoded = base64.b64encode(json.dumps(document).encode()).decode()
        key = b"AWS4" + self.secret_key.encode()
        for part in self._scope(when).split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return {**fields, "policy": encoded, "x-amz-signature": hmac.digest(key, encoded.encode(), "sha256").hex()}

    def chunks(
        self,
        chunks: list[bytes],
        seed: str,
        when: datetime.datetime,
        trailer: tuple[str, str] | None = None,
        wrong_chunk: int | None = None,
        terminal: bool = True,
    ) -> bytes:
        """The aws-chunked body with signed chunks. `seed` is the Authorization header; `wrong_chunk` gets a bad signature."""
        previous = seed.rpartition("Signature=")[2]
        out = b""
        for number, chunk in enumerate([*chunks, b""] if terminal else chunks):
            text = f"{previous}\n{EMPTY_SHA256}\n{hashlib.sha256(chunk).hexdigest()}"
            previous = self._signature(when, "AWS4-HMAC-SHA256-PAYLOAD", text)
            sent = "0" * 64 if number == wrong_chunk else previous
            out += f"{len(chunk):x};chunk-signature={sent}\r\n".encode()
            if chunk or not trailer:
                out += chunk + b"\r\n"
        if trailer and terminal:
            line = f"{trailer[0]}:{trailer[1]}\n"
            text = f"{previous}\n{hashlib.sha256(line.encode()).hexdigest()}"
            signature = self._signature(when, "AWS4-HMAC-SHA256-TRAILER", text)
            out += f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()
        return out


def unsigned_chunks(chunks: list[bytes], trailer: tuple[str, str] | None = None, terminal: bool = True) -> bytes:
    """The aws-chunked body without chunk signatures."""
    out = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    if not terminal:
        return out
    out += b"0\r\n"
    if trailer:
        out += f"{trailer[0]}:{trailer[1]}\r\n".encode()
    return out + b"\r\n"


def _of_the_runtime(name: str, width: int):
    """A checksum of the AWS runtime, which only the tests of checksums need."""

    def digest(data: bytes) -> bytes:
        import awscrt.checksums

        return getattr(awscrt.checksums, name)(data).to_bytes(width, "big")

    return digest


CHECKSUMS = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": _of_the_runtime("crc32c", 4),
    "CRC64NVME": _of_the_runtime("crc64nvme", 8),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(algorithm: str, data: bytes) -> str:
    """An x-amz-checksum-* value."""
    return base64.b64encode(CHECKSUMS[algorithm](data)).decode()
