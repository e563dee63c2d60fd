from __future__ import annotations

import pytest

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_scheduler.hub_search import Search

SMALL = types.HubRepository(
    name="small",
    parameter_count=8_190_735_360,
    quantizations=["Q8_0", "Q4_K_M"],
    licence=types.Licence(id="apache-2.0", commercial_use=types.COMMERCIAL_USE_YES),
    fit=types.PoolFit(node_name="attic"),
)
LARGE = types.HubRepository(
    name="large",
    parameter_count=70_553_706_496,
    quantizations=["IQ2_XXS"],
    licence=types.Licence(id="llama3.3", commercial_use=types.COMMERCIAL_USE_CONDITIONS),
    fit=types.PoolFit(node_name="attic", missing_bytes=1),
)
STUDY = types.HubRepository(
    name="study",
    parameter_count=3_085_938_688,
    licence=types.Licence(id="other", name="qwen-research", commercial_use=types.COMMERCIAL_USE_NO),
    fit=types.PoolFit(node_name="attic", partly_offloaded=True),
)
UNKNOWN = types.HubRepository(name="unknown")


@pytest.mark.parametrize(
    ("query", "words", "found"),
    [
        ("qwen 3", "qwen 3", "small large study unknown"),
        ("qwen FITS", "qwen", "small study"),
        ("below:8b", "", "small study"),
        ("below:500M", "", ""),
        ("x below:3.1B y", "x y", "study"),
        ("quant:q4_k_m", "", "small"),
        ("licence:Apache-2.0", "", "small"),
        ("license:qwen-research", "", "study"),
        ("licence:commercial", "", "small large"),
        ("fits licence:commercial quant:Q8_0 below:14B", "", "small"),
    ],
)
def test_wishes_leave_what_meets_them_all(query: str, words: str, found: str) -> None:
    search = Search.read(query)
    assert search.words == words
    left = search.of([SMALL, LARGE, STUDY, UNKNOWN])
    assert " ".join(repository.name for repository in left) == found


@pytest.mark.parametrize("query", ["color:red", "below:", "below:much", "quant:"])
def test_a_wish_that_there_is_not_is_refused_with_those_that_are(query: str) -> None:
    with pytest.raises(BadRequest, match="8B"):
        Search.read(query)
