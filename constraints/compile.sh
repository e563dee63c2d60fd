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
compile dev.txt --extra llama --extra hub --extra gateway --extra dev "$@"
compile run.txt --extra llama --extra hub --constraint constraints/dev.txt

# vLLM's build for processors, with that of PyTorch, which pip must be configured to find; without
# what vLLM needs for images, sound, cards and compiling, most of 2 GB.
find_links=${UV_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    ${find_links:+--find-links "$find_links"} --excludes constraints/vllm-excluded.in "$@" \
    constraints/vllm-test.in --output-file constraints/vllm-test.txt
