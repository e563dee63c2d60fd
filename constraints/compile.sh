#!/bin/sh
# Renew the pinned versions: `constraints/compile.sh [--upgrade]`, with `uv` on the PATH.
# The files hold names, versions and hashes for every platform, and no address.
set -eu
cd "$(dirname "$0")/.."
compile() {
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate "$@" \
        pyproject.toml constraints/build.in --output-file "constraints/$output"
}
compile dev.txt --extra llama --extra gateway --extra dev "$@"
compile run.txt --extra llama --constraint constraints/dev.txt
