"""A page in a real browser (headless Chromium) that uploads and reads across origins, as its bucket's CORS rules allow."""

import base64
import contextlib
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
from conftest import Tool, boto3_client, client_environment, program

# What the page does: an upload with headers that need a preflight, reads of what the rule exposes, a ranged read, a deletion that no
# rule allows, and a form. Its answers are the text of its body.
PAGE = """<!doctype html><meta charset=utf-8><body>waiting</body><script>
const urls = %(urls)s;
const answers = {};
async function step(name, work) {
  try { answers[name] = await work(); } catch (error) { answers[name] = "blocked"; }
}
(async () => {
  await step("put", async () => {
    const sent = await fetch(urls.put, {method: "PUT", body: "from a page", headers: {"x-amz-meta-colour": "blue", "Content-Type": "text/x-page"}});
    return [sent.status, sent.headers.get("ETag")];
  });
  await step("get", async () => {
    const got = await fetch(urls.get);
    return [got.status, await got.text(), got.headers.get("x-amz-meta-colour"), got.headers.get("x-amz-request-id")];
  });
  await step("range", async () => {
    const got = await fetch(urls.get, {headers: {"Range": "bytes=0-3"}});
    return [got.status, await got.text()];
  });
  await step("missing", async () => {
    const got = await fetch(urls.missing);
    return [got.status, (await got.text()).includes("NoSuchKey")];
  });
  await step("delete", async () => (await fetch(urls.delete, {method: "DELETE"})).status);
  await step("other", async () => (await fetch(urls.other)).status);
  await step("form", async () => {
    const form = new FormData();
    for (const [name, value] of Object.entries(urls.form.fields)) form.append(name, value);
    form.append("file", new Blob(["from a form"]), "page.txt");
    return (await fetch(urls.form.url, {method: "POST", body: form})).status;
  });
  document.body.textContent = "answers:" + btoa(JSON.stringify(answers)) + ":end";
})();
</script>"""


@contextlib.contextmanager
def site(page: str):
    """A web server of another origin with one page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join(10)


def visit(server, tmp_path, url: str) -> dict:
    """Opens a page and reads what it says when it has done."""
    chromium = program("chromium")
    home = tmp_path / "browser"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    browser = Tool(chromium, env=client_environment(home, server) | {"XDG_CONFIG_HOME": str(home)}, cwd=tmp_path)
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"]
    arguments += ["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]
    arguments += [f"--user-data-dir={home}", "--virtual-time-budget=30000", "--dump-dom", url]
    try:
        shown = browser(*arguments, timeout=120).stdout.decode()
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"the browser did not end: {late.stdout!r}") from late
    found = re.search(r"answers:([A-Za-z0-9+/=]*):end", shown)
    assert found, shown[-2000:]
    return json.loads(base64.b64decode(found[1]))


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not-allowed"])
def test_a_page_of_another_origin(server, s3, bucket, tmp_path, allowed):
    """What the rules allow works, answers that are errors included; all else the browser keeps from the page."""
    presign = boto3_client(server, signature_version="s3v4").generate_presigned_url

    def url(operation, key, **more):
        return presign(operation, Params={"Bucket": bucket, "Key": key, **more}, ExpiresIn=600)

    s3.create_bucket(Bucket=f"{bucket}-other")
    urls = {
        "put": url("put_object", "page.txt", ContentType="text/x-page", Metadata={"colour": "blue"}),
        "get": url("get_object", "page.txt"),
        "missing": url("get_object", "missing"),
        "delete": url("delete_object", "page.txt"),
        "other": presign("list_objects_v2", Params={"Bucket": f"{bucket}-other"}, ExpiresIn=600),
        "form": boto3_client(server, signature_version="s3v4").generate_presigned_post(bucket, "form.txt", ExpiresIn=600),
    }
    with site(PAGE % {"urls": json.dumps(urls)}) as origin:
        rule = {
            "AllowedOrigins": [origin if allowed else "https://somebody.else.example"],
            "AllowedMethods": ["GET", "PUT", "POST"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "x-amz-meta-colour"],
            "MaxAgeSeconds": 60,
        }
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
        answers = visit(server, tmp_path, origin)
    if allowed:
        assert answers["put"][0] == 200 and answers["put"][1] == s3.head_object(Bucket=bucket, Key="page.txt")["ETag"]
        assert answers["get"] == [200, "from a page", "blue", None], "headers that are not exposed are not seen"
        assert answers["range"] == [206, "from"]
        assert answers["missing"] == [404, True], "an error is an answer that the page may read"
        assert answers["form"] == 204
        assert s3.get_object(Bucket=bucket, Key="form.txt")["Body"].read() == b"from a form"
    else:
        assert {name: answers[name] for name in ("put", "get", "range", "missing", "form")} == dict.fromkeys(
            ("put", "get", "range", "missing", "form"), "blocked"
        )
    assert answers["delete"] == "blocked" and answers["other"] == "blocked"
    # The preflight kept the browser from sending what has side effects.
    assert ("Contents" in s3.list_objects_v2(Bucket=bucket, Prefix="page.txt")) == allowed
