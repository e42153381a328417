"""Old states with the tools that people keep backups with: rclone's views of versions, and restic's repositories."""

import datetime
import json
import os
import time

import pytest
from conftest import Tool, bucket_name, client_environment, program
from names import fill, tree


def test_rclone_sees_versions(rclone, bucket, s3, tmp_path):
    """backend versioning; every version of a file under a name of its own; the folder as it was at a moment; what is hidden goes."""
    assert "Enabled" in rclone("backend", "versioning", f"s:{bucket}", "Enabled").stdout.decode()
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "keep.txt").write_text("the first text")
    (tmp_path / "src" / "gone.txt").write_text("soon gone")
    rclone("sync", "src", f"s:{bucket}/dir")
    # Versions are told apart by the milliseconds of their times, and a moment by whole seconds.
    time.sleep(1.1)
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    time.sleep(1.1)
    (tmp_path / "src" / "keep.txt").write_text("the second text, which is longer")
    (tmp_path / "src" / "gone.txt").unlink()
    rclone("sync", "src", f"s:{bucket}/dir")

    now = {entry["Path"] for entry in json.loads(rclone("lsjson", "-R", "--files-only", f"s:{bucket}").stdout)}
    assert now == {"dir/keep.txt"}
    listed = json.loads(rclone("--s3-versions", "lsjson", "-R", "--files-only", f"s:{bucket}").stdout)
    names = sorted(entry["Path"] for entry in listed)
    assert len(names) == 3 and "dir/keep.txt" in names, names
    older = next(name for name in names if name.startswith("dir/keep-v"))
    hidden = next(name for name in names if name.startswith("dir/gone-v"))
    rclone("--s3-versions", "copy", f"s:{bucket}", "all")
    assert (tmp_path / "all" / older).read_text() == "the first text"
    assert (tmp_path / "all" / hidden).read_text() == "soon gone"

    at = ["--s3-version-at", moment]
    then = {entry["Path"] for entry in json.loads(rclone(*at, "lsjson", "-R", "--files-only", f"s:{bucket}").stdout)}
    assert then == {"dir/keep.txt", "dir/gone.txt"}
    rclone(*at, "copy", f"s:{bucket}/dir", "then")
    assert (tmp_path / "then" / "keep.txt").read_text() == "the first text"
    assert (tmp_path / "then" / "gone.txt").read_text() == "soon gone"
    # A view of the past is not written to.
    assert rclone(*at, "copyto", "src/keep.txt", f"s:{bucket}/dir/new", check=False).returncode != 0

    # What only an older version has, goes.
    rclone("backend", "cleanup-hidden", f"s:{bucket}")
    left = s3.list_object_versions(Bucket=bucket)
    assert [entry["Key"] for entry in left["Versions"]] == ["dir/keep.txt"] and "DeleteMarkers" not in left
    assert rclone("cat", f"s:{bucket}/dir/keep.txt").stdout.startswith(b"the second text")


def test_rclone_cleans_up_uploads(rclone, bucket, s3):
    """backend list-multipart-uploads, and cleanup of those that are older than an age."""
    s3.create_multipart_upload(Bucket=bucket, Key="left over")
    listed = json.loads(rclone("backend", "list-multipart-uploads", f"s:{bucket}").stdout)
    assert [upload["Key"] for upload in listed[bucket]] == ["left over"]
    rclone("backend", "cleanup", "-o", "max-age=1d", f"s:{bucket}")
    assert len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])) == 1, "too young"
    rclone("backend", "cleanup", "-o", "max-age=0s", f"s:{bucket}")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
def test_restic_backups(server, s3, request, tmp_path, home, versioned):
    """init, backup, backup again, check with all data, restore, forget with prune, and check again."""
    bucket = bucket_name(request)
    s3.create_bucket(Bucket=bucket)
    if versioned:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    env = client_environment(home, server) | {
        "RESTIC_REPOSITORY": f"s3:{server.endpoint}/{bucket}/backups/host",
        "RESTIC_PASSWORD": "correct horse",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    restic = Tool(program("restic"), env=env, cwd=tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    files = fill(source)
    (source / "large").write_bytes(os.urandom(24 << 20))
    restic("init")
    assert restic("init", check=False).returncode != 0, "a repository is there already"
    restic("backup", "source")
    (source / "large").write_bytes(os.urandom(12 << 20))
    restic("backup", "source")
    assert b"no errors were found" in restic("check", "--read-data").stdout
    snapshots = json.loads(restic("snapshots", "--json").stdout)
    assert len(snapshots) == 2
    restic("restore", "latest", "--target", "back")
    assert (tmp_path / "back" / "source" / "large").read_bytes() == (source / "large").read_bytes()
    (tmp_path / "back" / "source" / "large").unlink()
    assert tree(tmp_path / "back" / "source") == files
    restic("forget", "--keep-last", "1", "--prune")
    assert b"no errors were found" in restic("check", "--read-data").stdout
    assert len(json.loads(restic("snapshots", "--json").stdout)) == 1
    versions = s3.list_object_versions(Bucket=bucket)
    assert ("DeleteMarkers" in versions) == versioned, "what was pruned is kept where versions are"
