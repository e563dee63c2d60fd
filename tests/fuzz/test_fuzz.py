from __future__ import annotations

import pytest

from fuzz.run import fuzz
from fuzz.targets import SHARES

INPUTS = 20_000
"""A short run over the same inputs each time; `make fuzz` makes a million, and others each time."""

SEED = 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SHARES)
def test_nothing_that_strangers_send_crashes_hangs_or_leaks(name: str) -> None:
    pytest.importorskip("atheris", reason="the fuzzer is for Linux on x86_64")
    outcome = fuzz(name, INPUTS, SEED)
    assert not outcome.fault, outcome.fault
    assert outcome.inputs >= INPUTS * SHARES[name]
