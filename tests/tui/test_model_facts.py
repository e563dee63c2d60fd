from __future__ import annotations

from potluck_proto.errors import ModelFileError
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.commands.pool import fact_lines
from potluck_tui.model_facts import Fact, facts


def mixture() -> types.ModelDetail:
    """Return what is known of a mixture of experts."""
    detail = types.ModelDetail(
        description=types.ModelDescription(
            name="qwen3-30b-a3b",
            quantization="Q4_K_M",
            architecture="qwen3moe",
            parameter_count=30_532_122_624,
            bits_per_weight=4.86,
            training_context_length=40_960,
            context_length=8_192,
            vocabulary_size=151_936,
            has_chat_template=True,
            tuning=types.TUNING_TUNED,
            file_bytes=18_556_686_912,
            engines=["llama"],
            title="Qwen3 30B\x1b[2J",
        ),
        active_parameter_count=3_345_000_000,
        base_models=["Qwen/Qwen3-30B-A3B-Base"],
        tuning_source="it was made from Qwen/Qwen3-30B-A3B-Base",
        template_supports=["system", "tools", "reasoning"],
        modalities=["text"],
        licence=types.Licence(
            id="apache-2.0",
            commercial_use=types.COMMERCIAL_USE_YES,
            terms="Keep the notices.",
            source="its files name 'apache-2.0'",
        ),
    )
    for name, size_bytes in (("Q4_K", 80), ("Q6_K", 19), ("F32", 1)):
        detail.tensor_types.add(name=name, size_bytes=size_bytes)
    return detail


def test_each_property_is_said_in_words_and_with_its_source() -> None:
    known = {fact.name: fact for fact in facts(mixture())}
    assert known["title"].value == "Qwen3 30B\ufffd[2J"
    assert known["tuning"] == Fact(
        "tuning", "tuned to answer", "it was made from Qwen/Qwen3-30B-A3B-Base"
    )
    assert known["parameters"].value == "31B, of which 3.3B take part in each token"
    assert known["quantization"].value == (
        "Q4_K_M, 4.86 bits a weight as measured (Q4_K 80%, Q6_K 19%, F32 1%)"
    )
    assert known["context"].value == "40,960 tokens as trained; 8,192 as it is loaded"
    assert known["chat template"].value == "with system, tools, reasoning"
    assert known["commercial use"].value == "yes: Keep the notices."
    assert known["commercial use"].source == "its files name 'apache-2.0'"
    assert "problem" not in known


def test_what_is_not_known_is_left_out_and_a_problem_comes_first() -> None:
    detail = types.ModelDetail(path="/models/broken.gguf")
    detail.description.problem.CopyFrom(ModelFileError("It is empty.").to_proto())
    assert facts(detail) == [Fact("problem", "It is empty."), Fact("file", "/models/broken.gguf")]


def test_a_base_model_and_one_that_sees_say_so() -> None:
    detail = mixture()
    detail.description.tuning = types.TUNING_BASE
    detail.modalities.append("images")
    known = {fact.name: fact.value for fact in facts(detail)}
    assert known["tuning"].startswith("base model")
    assert known["reads"] == "text; made for images too, which Potluck does not give it"


def test_facts_fit_a_terminal_of_80_columns() -> None:
    lines = list(fact_lines(facts(mixture())))
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("  title          ")
