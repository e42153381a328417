"""Checks what is shipped for deployment by the tools of those who read it: the Compose and Kubernetes schemas, promtool, systemd, nginx.

What a tool that is not installed would check is told as skipped. Ends with `N passed, N failed`.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing
import urllib.error
import urllib.request

import gateway
import yaml

DEPLOYMENT = gateway.ROOT / "docs" / "deployment"


def tool(*command: str, cwd: pathlib.Path = gateway.ROOT) -> str:
    """Runs a checker; what it says when it refuses."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def beside(name: str) -> str:
    """A program of this Python's environment."""
    return str(pathlib.Path(sys.executable).parent / name)


def compose() -> str:
    """The schema of Compose; and that everything which is mounted from here is here."""
    wrong = tool(beside("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    document = yaml.safe_load((gateway.ROOT / "docker-compose.yml").read_text())
    for name, service in document["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (gateway.ROOT / source).exists():
                wrong += f"{name}: {source} is not there\n"
            elif not source.startswith(".") and source not in document["volumes"]:
                wrong += f"{name}: the volume {source} is not declared\n"
        if name.startswith("gateway") and service["healthcheck"]["interval"] != "10s":
            wrong += f"{name}: health check\n"
    example = {line.split("=")[0] for line in (DEPLOYMENT / "compose" / "env.example").read_text().splitlines() if "=" in line and line[0] != "#"}
    asked = set(re.findall(r"\$\{(\w+)", (gateway.ROOT / "docker-compose.yml").read_text()))
    if asked != example:
        wrong += f"env.example and docker-compose.yml differ: {asked ^ example}\n"
    return wrong


def kubernetes() -> str:
    return tool(beside("kubernetes-validate"), "--strict", "docs/deployment/kubernetes/sluice.yaml")


def configurations() -> str:
    """The configurations that are shipped, as the gateway reads them."""
    manifest = yaml.safe_load_all((DEPLOYMENT / "kubernetes" / "sluice.yaml").read_text())
    texts = {"kubernetes": next(one for one in manifest if one["kind"] == "ConfigMap")["data"]["sluice.toml"]}
    texts["compose"] = (DEPLOYMENT / "compose" / "sluice.toml").read_text()
    texts["example"] = (gateway.ROOT / "sluice.example.toml").read_text()
    wrong = ""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            path = pathlib.Path(folder) / f"{name}.toml"
            path.write_text(text)
            wrong += tool(str(gateway.BINARY), "serve", "--config", str(path), "--check")
    return wrong


def alerts() -> str | None:
    return tool("promtool", "check", "rules", "docs/prometheus-alerts.yml") if shutil.which("promtool") else None


def metrics() -> str | None:
    """What a gateway exposes after some requests, as Prometheus reads it."""
    if not shutil.which("promtool"):
        return None
    with gateway.Gateway() as server:
        for path in ("/", "/none", "/none/k?x=y"):
            try:
                urllib.request.urlopen(f"{server.endpoint}{path}", timeout=10)
            except urllib.error.HTTPError:
                pass
        text = server.admin_get("/metrics")[1]
    if "sluice_errors_total{" not in text:
        return "the requests are not in the metrics\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    # It ends with 3 where it would have called something otherwise.
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def metrics_exist() -> str:
    """Every metric in alerts and dashboard is one of the gateway's."""
    dashboard = json.loads((gateway.ROOT / "docs" / "grafana-dashboard.json").read_text())
    text = json.dumps(dashboard) + (gateway.ROOT / "docs" / "prometheus-alerts.yml").read_text()
    known = set(re.findall(r'"((?:sluice|process)_\w+)"', (gateway.ROOT / "src" / "telemetry" / "metrics.rs").read_text()))
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b((?:sluice|process)_[a-z_]+)\b", text)}
    unknown = {name for name in used if name not in known}
    return f"no such metrics: {unknown}\n" if unknown else ""


def units() -> str | None:
    """systemd reads the units; the binary is this one."""
    if not shutil.which("systemd-analyze"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sluice.service", "sluice.socket"):
            text = (DEPLOYMENT / "systemd" / name).read_text().replace("/usr/local/bin/sluice", str(gateway.BINARY))
            (pathlib.Path(folder) / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"{folder}/sluice.service", f"{folder}/sluice.socket"],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [line for line in done.stderr.splitlines() if "sluice." in line]
        return "\n".join(lines)


def nginx() -> str | None:
    """nginx reads its configuration; the names of the gateways are those of a network that is not here."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if not program:
        return None
    with tempfile.TemporaryDirectory() as folder:
        text = re.sub(r"gateway-[12]:", "127.0.0.1:", (DEPLOYMENT / "compose" / "nginx.conf").read_text())
        path = pathlib.Path(folder) / "nginx.conf"
        path.write_text(f"pid {folder}/nginx.pid;\nerror_log stderr;\n{text}")
        return tool(program, "-t", "-q", "-p", folder, "-e", "stderr", "-c", str(path))


def yaml_files() -> str:
    """All other YAML can be read."""
    wrong = ""
    for path in DEPLOYMENT.rglob("*.y*ml"):
        try:
            list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError as error:
            wrong += f"{path}: {error}\n"
    return wrong


CHECKS: list[typing.Callable[[], str | None]] = [compose, kubernetes, configurations, alerts, metrics, metrics_exist, units, nginx, yaml_files]


def main() -> int:
    passed, failed = 0, 0
    for check in CHECKS:
        wrong = check()
        if wrong is None:
            print(f"SKIPPED {check.__name__}: its tool is not installed")
            continue
        if wrong:
            print(f"FAILED {check.__name__}:\n{wrong}")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
