"""What was measured of a model on a machine, in a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean


@dataclass(frozen=True, slots=True)
class BenchmarkView:
    """What was measured of a model on a node."""

    node_name: str
    words: str
    """Its figures, in a line."""

    @classmethod
    def from_proto(cls, benchmark: pb.Benchmark) -> BenchmarkView:
        """Take a benchmark apart."""
        return cls(clean(benchmark.node_name), ", ".join(_words(benchmark.levels)))


def _words(levels: Sequence[pb.BenchmarkLevel]) -> Iterator[str]:
    alone, most = levels[0], levels[-1]
    yield f"{alone.decode_tokens_per_second:.0f} tokens/s"
    if most.streams > 1:
        yield f"{most.total_tokens_per_second:.0f} in all with {most.streams} at once"
    yield f"first token after {alone.time_to_first_token_seconds:.1f} s"
    if alone.HasField("joules_per_token"):
        yield f"{alone.joules_per_token:.2g} J a token"
