"""Certificates for tests, made with openssl."""

import pathlib
import subprocess

from conftest import program


def openssl(*arguments: str, cwd: pathlib.Path) -> None:
    subprocess.run([program("openssl"), *arguments], cwd=cwd, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.cert = folder / "ca.pem"
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=authority")
        openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", cwd=folder)

    def issue(self, name: str) -> tuple[pathlib.Path, pathlib.Path]:
        """A certificate for 127.0.0.1 and its key."""
        request = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}")
        openssl(*request, "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=self.folder)
        (self.folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        openssl(*sign, "-extfile", "san", "-out", f"{name}.pem", cwd=self.folder)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


class Pki:
    """An authority, and the files that a gateway is configured with."""

    def __init__(self, folder: pathlib.Path):
        self.authority = Authority(folder / "pki")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.install("first")

    def install(self, name: str) -> None:
        """Puts a new certificate in the place of the one before."""
        cert, key = self.authority.issue(name)
        for source, to in ((cert, self.cert), (key, self.key)):
            staged = to.with_suffix(".new")
            staged.write_bytes(source.read_bytes())
            staged.rename(to)

    def config(self, more: str = "") -> str:
        return f'[server]\ntls_cert = "{self.cert}"\ntls_key = "{self.key}"\n{more}\n'
