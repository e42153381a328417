#!/usr/bin/env bash
# Runs ceph/s3-tests' functional/test_s3.py against the release binary and compares with docs/compat/s3-tests-passing.txt.
#
#   S3TESTS_DIR=/path/to/a/checkout bash compat-tests/s3-tests.sh [--update] [--headers | --iam | --through s3] [pytest arguments, e.g. -k multipart]
#
# The suite itself is not part of this repository. Ends non-zero when a test that is on the list of passing ones fails.
# --update rewrites the lists in docs/compat/ from this run (whole runs only).
# --iam runs functional/test_iam.py and test_sts.py, which have lists of their own.
# --headers runs functional/test_headers.py instead, which has no list.
# --through s3 runs test_s3.py with buckets that are mounts of a second gateway, which is started for it: what passes without that and not
# through it is in docs/compat/s3-tests-through-s3.txt.
# SLUICE_BIN names another binary than target/release/sluice.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${S3TESTS_DIR:-}" ] || [ ! -f "${S3TESTS_DIR:-}/s3tests/functional/test_s3.py" ]; then
    echo "s3-tests.sh: set S3TESTS_DIR to a checkout of https://github.com/ceph/s3-tests" >&2
    exit 2
fi
unset AWS_CA_BUNDLE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE

target=${CARGO_TARGET_DIR:-target}
if [ -z "${SLUICE_BIN:-}" ]; then
    cargo build --release --ignore-rust-version --bin sluice
fi

venv=$target/s3-tests-venv
if [ ! -f "$venv/complete" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$S3TESTS_DIR/requirements.txt" pytest-xdist pytest-timeout
    touch "$venv/complete"
fi
exec "$venv/bin/python" compat-tests/s3_tests.py "$@"
