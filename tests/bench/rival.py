"""llama.cpp's own server as a process: `python tests/bench/rival.py MODEL CONTEXT SLOTS THREADS`.

Prints its address when it is ready, and serves until its standard input ends.
"""

from __future__ import annotations

import sys

import xllamacpp


def main() -> None:
    """Serve one model as the worker would: one unified KV cache, the same batch and threads."""
    path, context_length, slots, threads = sys.argv[1], *map(int, sys.argv[2:5])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = context_length * slots
    parameters.n_parallel = slots
    parameters.kv_unified = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.warmup = True
    parameters.port = 0
    # It is the same llama.cpp: where ours must not repack weights, it does not either.
    parameters.no_extra_bufts = "--plain-weights" in sys.argv
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
