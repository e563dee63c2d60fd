from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.driving import STARTER, Outcome, ask, drive
from potluck_proto.errors import BadRequest
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.base import ChatMessage, Generate, Load, Sampling
from potluck_worker.engines.llama import gbnf, library
from potluck_worker.engines.llama.candidates import Candidates
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.grammar import Grammar, grammar_of_schema
from potluck_worker.engines.llama.vocabulary import Vocabulary

LONG = "Write me a long story about a house full of computers."


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    engine = LlamaEngine()
    engine.load(Load(str(STARTER), context_length=512, slots=3, threads=1))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    model = library.Model(Path(STARTER), library.start(), vocabulary_only=True)
    vocabulary = Vocabulary(model.vocabulary)
    vocabulary.model = model  # type: ignore[attr-defined]
    return vocabulary


def constrained(engine: LlamaEngine, temperature: float, seed: int, **options: Any) -> Outcome:
    wild = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 150}
    return drive(engine, ask(LONG, temperature=temperature, seed=seed, **wild | options))[0]


def failure(outcome: Outcome) -> str:
    assert outcome.end is not None
    assert outcome.end.failure is not None
    assert outcome.end.failure.code == types.ERROR_CODE_BAD_REQUEST
    return outcome.end.failure.message


@pytest.mark.parametrize("temperature", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(
    ("grammar", "expression"),
    [
        ('root ::= "yes" | "no"', r"yes|no"),
        ('root ::= [a-f]{3} "-" [0-9]{2,4}', r"[a-f]{3}-[0-9]{2,4}"),
        (
            'root ::= word (", " word){2} "."\nword ::= [^ .,]{1,6}',
            r"[^ .,]{1,6}(, [^ .,]{1,6}){2}\.",
        ),
        ('root ::= "Grüße, " [\\u4e16\\u754c🦙]{2}', r"Grüße, [世界🦙]{2}"),
        ('root ::= ""', r""),
    ],
)
def test_an_answer_matches_its_grammar_and_ends_where_the_grammar_does(
    engine: LlamaEngine, grammar: str, expression: str, temperature: float
) -> None:
    for seed in range(3):
        outcome = constrained(engine, temperature, seed, grammar=grammar)
        assert outcome.end is not None
        assert outcome.end.reason == "end_of_turn"
        assert re.fullmatch(expression, outcome.text)


def test_no_end_of_turn_comes_before_the_grammar_is_complete(engine: LlamaEngine) -> None:
    (plain,) = drive(engine, ask("hello", temperature=0.0))
    least = len(plain.text) + 50
    (outcome,) = drive(
        engine,
        ask("hello", temperature=0.0, grammar=f"root ::= [^\\x00]{{{least},}}", max_tokens=90),
    )
    assert outcome.end is not None
    assert outcome.text.startswith(plain.text)
    assert len(outcome.text) > len(plain.text)


def test_a_grammar_that_fits_what_the_model_says_changes_nothing(engine: LlamaEngine) -> None:
    for temperature in (0.0, 3.0):
        options: dict[str, Any] = {"temperature": temperature, "seed": 4}
        (free,) = drive(engine, ask("hello", max_tokens=60, **options))
        (bound,) = drive(engine, ask("hello", max_tokens=60, grammar="root ::= .*", **options))
        assert bound.token_ids == free.token_ids
        assert bound.text == free.text


def test_the_name_of_a_control_token_is_no_text_for_a_grammar(engine: LlamaEngine) -> None:
    (control,) = engine._vocabulary.tokenize("<|user|>", special=True)
    outcome = constrained(
        engine, 0.0, 0, grammar='root ::= "<|user|>"', logit_bias={control: 100.0}
    )
    assert outcome.text == "<|user|>"
    assert control not in outcome.token_ids


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "tags"],
}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 4.0])
def test_an_answer_by_a_json_schema_is_json_of_that_shape(
    engine: LlamaEngine, temperature: float
) -> None:
    ended = 0
    for seed in range(5):
        outcome = constrained(engine, temperature, seed, json_schema=json.dumps(SCHEMA))
        assert outcome.end is not None
        if outcome.end.reason != "end_of_turn":
            continue
        ended += 1
        value = json.loads(outcome.text)
        assert list(value) == ["name", "age", "kind", "tags"]
        assert len(value["name"]) <= 12
        assert isinstance(value["age"], int)
        assert value["kind"] in ("cat", "dog")
        assert all(isinstance(tag, bool) for tag in value["tags"])
    assert ended


@pytest.mark.parametrize("pattern", ["^.{6}$", "^[^a]{6}$"])
def test_a_pattern_makes_no_string_that_is_no_json(engine: LlamaEngine, pattern: str) -> None:
    schema = json.dumps({"type": "string", "pattern": pattern})
    assert "\\x00-\\x1F" in grammar_of_schema(schema)
    for seed in range(5):
        outcome = constrained(engine, 4.0, seed, json_schema=schema)
        assert len(json.loads(outcome.text)) == 6


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('root ::= "a', "line 1: cannot read"),
        ("hello there", "line 1: expected a rule"),
        ('\n\nroot ::= "a" %', "line 3: cannot read '%'"),
        ('root ::= ("a"', "a parenthesis is not closed"),
        ('root ::= "a")', "a parenthesis closes"),
        ("root ::= *", "nothing before it"),
        ('start ::= "a"', "no rule named root"),
        ("root ::= word", "uses the rule word"),
        ('root ::= root "a" | "b"', "left recursion"),
        ('root ::= a root "x" | "y"\na ::= b\nb ::= ""', "left recursion"),
        ('root ::= a | "y"\na ::= b "x"\nb ::= root', "left recursion"),
        ('root ::= (a? root)* "x"\na ::= "y"', "left recursion"),
        ('root ::= "a"{3,1}', "at least 3 and at most 1"),
        ('root ::= "a"{9999999999}', "cannot read"),
        ('root ::= "a"{3000}', "more than 2,000"),
        (f'root ::= "{"a" * 1000}"{{1999}}', "too large"),
        ("root ::= " + "(" * 10**5 + '"a"' + ")" * 10**5, "more than 500 deep"),
        (
            "root ::= r0\n"
            + "".join(f'r{n} ::= r{n + 1} "x" | r{n + 1} "y"\n' for n in range(40))
            + 'r40 ::= "a"',
            "more than 2,000 ways",
        ),
        ('root ::= "a\0b"', "character of code 0"),
        ('root ::= "' + "a" * 2**18 + '"', "characters long"),
        ('root ::= "\\q"', "llama.cpp cannot parse"),
        ('root ::= "a"\n"b"', "llama.cpp cannot parse"),
        ("root ::= <[5000000]>", "leads nowhere"),
    ],
    ids=lambda value: value[:40],
)
def test_a_grammar_that_does_not_work_fails_its_own_request_alone(
    engine: LlamaEngine, grammar: str, message: str
) -> None:
    started = time.monotonic()
    bad, good = drive(engine, ask("hello", "a", grammar=grammar), ask("hello", "b"))
    assert message in failure(bad)
    assert good.end is not None
    assert good.end.reason == "end_of_turn"
    assert time.monotonic() - started < 5


def test_a_grammar_with_ever_more_readings_is_given_up(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.engines.llama.grammar.ACCEPT_SECONDS", 0.0)
    bad, good = drive(engine, ask("hello", "a", grammar="root ::= .*"), ask("hello", "b"))
    assert "too ambiguous" in failure(bad)
    assert good.end is not None
    assert good.end.reason == "end_of_turn"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "cannot be turned into a grammar"),
        ("[]", "cannot be turned into a grammar"),
        ('{"type": "frob"}', "Unrecognized schema"),
        ('{"$ref": "https://example.com/schema.json"}', "Fetching remote schemas is not allowed"),
        ('{"$ref": "#/nowhere"}', "nowhere"),
        ('{"type": "array", "items": {"type": "null"}, "minItems": 1000000000}', ""),
        ('{"type": "string", "maxLength": 100000}', "characters long"),
        ('{"items":' * 20000 + "{}" + "}" * 20000, "recursion"),
        (" " * 2**18 + "{}", "characters long"),
    ],
    ids=lambda value: value[:40],
)
def test_a_schema_that_does_not_work_fails_its_own_request_alone(
    engine: LlamaEngine, schema: str, message: str
) -> None:
    bad, good = drive(engine, ask("hello", "a", json_schema=schema), ask("hello", "b"))
    assert message in failure(bad)
    assert good.end is not None
    assert good.end.reason == "end_of_turn"


def test_a_recursive_schema_works(vocabulary: Vocabulary) -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "number"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["value"],
            }
        },
        "$ref": "#/$defs/node",
    }
    grammar = Grammar(grammar_of_schema(json.dumps(tree)), vocabulary, Candidates(vocabulary.size))
    for token in vocabulary.tokenize('{"value": 1, "children": [{"value": 2}]}', special=False):
        assert grammar.allows(token)
        grammar.accept(token)
    grammar.close()


def test_an_answer_that_does_not_match_the_grammar_cannot_be_gone_on_with(
    engine: LlamaEngine,
) -> None:
    asked = Sampling(grammar='root ::= "yes"')
    (outcome,) = drive(engine, Generate("a", [ChatMessage("user", "hi")], asked, [], "maybe"))
    assert "does not match the grammar" in failure(outcome)


ITEMS = st.recursive(
    st.sampled_from(["root", "a", "b", '"x"', '""', "[a-z]", "[^q]", ".", "[]", "<[5]>", "!<[5]>"]),
    lambda item: st.one_of(
        st.lists(st.lists(item, max_size=3).map(" ".join), min_size=1, max_size=3).map(
            lambda alternatives: f"({' | '.join(alternatives)})"
        ),
        st.tuples(item, st.sampled_from(["*", "+", "?", "{2}", "{0,3}", "{1,}", "{0}"])).map(
            "".join
        ),
    ),
    max_leaves=8,
)


@given(st.tuples(*[st.lists(ITEMS, max_size=3).map(" ".join)] * 3))
@settings(max_examples=300, derandomize=True)
def test_what_the_check_lets_through_does_not_bring_the_library_down(
    vocabulary: Vocabulary, rules: tuple[str, str, str]
) -> None:
    text = "\n".join(
        f"{name} ::= {body}" for name, body in zip(("root", "a", "b"), rules, strict=True)
    )
    try:
        grammar = Grammar(text, vocabulary, Candidates(vocabulary.size))
    except BadRequest:
        return
    # Only so far: the readings of an ambiguous grammar double with each character.
    for token in vocabulary.tokenize("x", special=False) * 3:
        if not grammar.allows(token):
            break
        grammar.accept(token)
    grammar.close()


@given(st.text(alphabet='root a:=|"[](){}*+?<>!.\\-09,#\n', max_size=60))
def test_any_text_is_a_grammar_or_a_bad_request(text: str) -> None:
    try:
        gbnf.check("root ::= " + text)
    except BadRequest as error:
        assert str(error)
