"""An OpenID Connect issuer of our own: metadata and keys over HTTP, and tokens signed with RS256 or ES256."""

import base64
import http.server
import json
import threading
import time

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC, RSA
from Crypto.Signature import DSS, pkcs1_15


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int, size: int) -> str:
    return _text(value.to_bytes(size, "big"))


class Issuer:
    """Serves until it is closed. `keys` may be changed while it does."""

    def __init__(self):
        self.rsa, self.ec = RSA.generate(2048), ECC.generate(curve="P-256")
        self.asked: list[str] = []
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                issuer.asked.append(self.path)
                documents = {
                    "/idp/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/idp/keys": {"keys": issuer.keys()},
                }
                document = documents.get(self.path)
                body = json.dumps(document or {}).encode()
                self.send_response(200 if document else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/idp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        """The issuer as condition keys name it."""
        return self.url.removeprefix("http://")

    def keys(self) -> list[dict]:
        """The public keys."""
        point = self.ec.public_key().pointQ
        return [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": _number(self.rsa.n, 256), "e": _number(self.rsa.e, 3)},
            {"kty": "EC", "kid": "ec", "use": "sig", "crv": "P-256", "x": _number(int(point.x), 32), "y": _number(int(point.y), 32)},
        ]

    def token(self, algorithm: str = "RS256", **claims) -> str:
        """A token of zoe for the application, unless the claims say otherwise."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "zoe", "aud": "app", "iat": now, "exp": now + 600, **claims}
        header = {"alg": algorithm, "typ": "JWT", "kid": {"RS256": "rsa", "ES256": "ec"}[algorithm]}
        message = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(claims).encode())}"
        digest = SHA256.new(message.encode())
        signer = pkcs1_15.new(self.rsa) if algorithm == "RS256" else DSS.new(self.ec, "fips-186-3")
        return f"{message}.{_text(signer.sign(digest))}"

    def __enter__(self) -> "Issuer":
        return self

    def __exit__(self, *_exc) -> None:
        self.server.shutdown()
        self.server.server_close()
