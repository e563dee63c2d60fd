from __future__ import annotations

from pathlib import Path

import pytest

from engines.asking import described
from lineages.gguf_file import write
from lineages.kinds import LINEAGES, saying
from lineages.make import Lineage, make, metadata, tensors
from potluck_worker.engines.inspection import Inspection, LicenceWords
from potluck_worker.engines.lineage import lineage
from potluck_worker.engines.sizing import Options
from potluck_worker.engines.template_features import features
from potluck_worker.engines.vllm.model_card import ModelCard
from potluck_worker.library.licences import licence

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if enable_thinking %}<think>{% endif %}"
)


def inspected(path: Path) -> Inspection:
    return described(path, Options(256, 1, "f16")).inspection


def saying_of_itself(path: Path, kind: Lineage, **said: object) -> Inspection:
    """Return the inspection of a file with more words in its header."""
    words = {f"general.{key.replace('__', '.')}": value for key, value in said.items()}
    write(path, kind.architecture, metadata(kind, path.stem) | words, tensors(kind))
    return inspected(path)


def test_a_gguf_file_names_its_origin_and_its_licence(tmp_path: Path) -> None:
    found = saying_of_itself(
        tmp_path / "some-model.gguf",
        LINEAGES["llama"],
        organization="Somebody",
        license="other",
        license__name="llama3.1",
        license__link="https://example.com/licence",
        tags=["text-generation", "chat"],
        base_model__count=2,
        base_model__0__name="Model 8B",
        base_model__0__organization="Meta Llama",
        base_model__0__repo_url="https://example.com/meta-llama/Model-8B",
        base_model__1__name="Other",
        base_model__1__organization="Its Maker",
    )
    assert found.lineage.organization == "Somebody"
    assert found.lineage.base_models == ["meta-llama/Model-8B", "Its-Maker/Other"]
    assert found.lineage.tuning == "tuned"
    assert found.lineage.tuning_source == "it was made from meta-llama/Model-8B"
    known = licence(found.licence)
    assert known.commercial_use == "conditions"
    assert known.link == "https://example.com/licence"


def test_of_a_mixture_the_active_weights_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "mixture.gguf"
    make(path, LINEAGES["qwen3moe"])
    found = inspected(path)
    experts = 2 * 3 * 8 * 64 * 64  # layers, matrices, experts, and their sizes
    assert found.active_parameter_count == found.parameter_count - experts * 3 // 4


def test_what_is_dense_is_all_active_and_says_how_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "dense.gguf"
    make(path, LINEAGES["llama"])
    found = inspected(path)
    assert found.active_parameter_count == found.parameter_count
    assert found.bytes_by_type == {"F32": found.parameter_count * 4}


def test_a_split_file_is_described_as_a_whole(tmp_path: Path) -> None:
    make(tmp_path / "whole.gguf", LINEAGES["qwen3moe"])
    make(tmp_path / "split.gguf", LINEAGES["qwen3moe"], tensors_a_file=5)
    whole = inspected(tmp_path / "whole.gguf")
    split = inspected(min(tmp_path.glob("split-*")))
    assert split.bytes_by_type == whole.bytes_by_type
    assert split.active_parameter_count == whole.active_parameter_count


@pytest.mark.parametrize("count", ["many", "99999999999"])
def test_a_count_of_bases_that_cannot_be_does_no_harm(tmp_path: Path, count: str) -> None:
    found = saying_of_itself(
        tmp_path / "m.gguf", saying(LINEAGES["llama"], {}), base_model__count=count
    )
    assert found.lineage.base_models == []


def test_what_a_template_supports_is_found_by_rendering_it() -> None:
    tools = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    assert features(CHATML) == ("system", "reasoning")
    assert features(CHATML, CHATML + tools) == ("system", "tools", "reasoning")
    assert features(strict) == ()
    assert features("{% for %}") == features("") == ()


def test_the_words_of_a_file_count_before_its_name() -> None:
    assert lineage(title="X Chat", file_name="x-base", has_chat_template=False).tuning == "tuned"
    assert lineage(title="Qwen3 8B Base", has_chat_template=True).tuning == "base"
    assert lineage(finetune="Instruct", title="X", has_chat_template=False).tuning == "tuned"
    assert lineage(title="Vicuna 7B", has_chat_template=False).tuning == "tuned"
    assert lineage(tags=["it"], file_name="x-base", has_chat_template=False).tuning == "tuned"
    nameless = lineage(title="Model 7B", has_chat_template=False)
    assert nameless.tuning == "base"
    assert "no chat template" in nameless.tuning_source
    # A word within a word is not the word.
    assert lineage(title="Database Italian", has_chat_template=True).tuning == "tuned"


def test_a_card_is_read_as_far_as_it_is_plain(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\n"
        "license: other # see below\n"
        "license_name: 'llama3.2'\n"
        "base_model:\n"
        "- meta-llama/A\n"
        '  - "meta-llama/B"\n'
        "tags: [chat, code]\n"
        "model-index:\n"
        "- name: x\n"
        "  results: &anchor\n"
        "extra_gated_prompt: >-\n"
        "  license: mit\n"
        "---\n"
        "license: mit\n"
    )
    card = ModelCard.read(tmp_path)
    assert card.text("license") == "other"
    assert card.text("license_name") == "llama3.2"
    assert card.texts("base_model") == ["meta-llama/A", "meta-llama/B"]
    assert card.texts("tags") == ["chat", "code"]


@pytest.mark.parametrize("text", ["", "license: mit", "---\nlicense: mit\n", "--- x\n---\n"])
def test_a_readme_without_a_whole_head_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert ModelCard.read(tmp_path).text("license") == ""
    assert ModelCard.read(tmp_path / "nowhere").text("license") == ""


def test_a_licence_that_is_not_in_the_table_is_unknown_and_says_so() -> None:
    known = licence(LicenceWords("other", "our-own", "https://example.com"))
    assert known.commercial_use == "unknown"
    assert known.source == "its files name 'other' and 'our-own', which is not in the table"
    assert licence(LicenceWords()).source == "its files name none"


@pytest.mark.parametrize("written", ["apache-2.0", "Apache License 2.0", "Apache-2.0"])
def test_a_licence_is_known_however_it_is_written(written: str) -> None:
    assert licence(LicenceWords(written)).commercial_use == "yes"
