"""Checks the documentation: every relative link leads somewhere, and the console blocks that are marked to be run do run.

A block is marked by `<!-- run -->` on the line before it. Its `$ ` lines are run one after another in one shell, in an empty
folder, with the variables that a client needs and `aws` on the path; the block fails with the first command that does.
Arguments are the names of the pages to check, all when there are none.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import gateway

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^<!-- run -->\n```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[pathlib.Path]:
    """All Markdown pages of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=gateway.ROOT, capture_output=True, text=True, check=True
    )
    return [gateway.ROOT / name for name in listed.stdout.splitlines()]


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def broken_links(page: pathlib.Path) -> list[str]:
    """Links that lead nowhere."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            broken.append(link)
    return broken


def commands(block: str) -> str:
    """The commands of a console block; a line that ends with a backslash goes on in the next."""
    lines, goes_on = [], False
    for line in block.splitlines():
        if goes_on or line.startswith("$ "):
            lines.append(line.removeprefix("$ ") if not goes_on else line.removeprefix("> "))
            goes_on = line.endswith("\\")
    return "\n".join(lines)


def run(page: pathlib.Path, blocks: list[str]) -> str:
    """Runs a page's blocks in one shell against one gateway; returns what went wrong."""
    with gateway.Gateway() as server, tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as programs:
        (pathlib.Path(programs) / "sluice").symlink_to(server.program)
        env = {
            **gateway.clean_environment(),
            "HOME": folder,
            "PATH": f"{pathlib.Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": gateway.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": gateway.SECRET_KEY,
            "AWS_DEFAULT_REGION": gateway.REGION,
            "AWS_REGION": gateway.REGION,
            "AWS_ENDPOINT_URL": server.endpoint,
            "SLUICE_DATA_DIR": str(server.data_dir),
            "SLUICE_ADMIN_LISTEN": f"127.0.0.1:{server.admin_port}",
            "AWS_PAGER": "",
        }
        # What a block leaves running ends with it.
        script = "set -eux -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(map(commands, blocks)) + "\n"
        # The page shows the default addresses; this gateway has its own.
        ports = {9000: server.port, 9001: server.admin_port, 9100: gateway.free_port(), 9101: gateway.free_port()}
        script = re.sub(r"127\.0\.0\.1:(9[01]0[01])\b", lambda match: f"127.0.0.1:{ports[int(match[1])]}", script)
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400)
        print(f"--- {page.name}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return "" if done.returncode == 0 else f"its commands end with {done.returncode}"


def main() -> int:
    passed, failed, asked = 0, 0, sys.argv[1:]
    for page in pages():
        if asked and page.name not in asked:
            continue
        name = page.relative_to(gateway.ROOT)
        broken = broken_links(page)
        if broken:
            print(f"FAILED {name}: broken links: {', '.join(broken)}")
        passed, failed = passed + (not broken), failed + bool(broken)
        blocks = BLOCK.findall(page.read_text())
        if blocks:
            wrong = run(page, blocks)
            if wrong:
                print(f"FAILED {name}: {wrong}")
            passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
