"""Reads a checkpoint in safetensors: a folder as models are published for PyTorch.

Only JSON and the headers of weights are read, so that a stranger's files can do little, and no
library is needed. Weights in pickles (`.bin`, `.pt`) can run code when they are read: they are
refused here and never reach a library.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potluck_proto.errors import ModelFileError, UnsupportedModel
from potluck_worker.engines.inspection import Inspection, LicenceWords
from potluck_worker.engines.lineage import lineage
from potluck_worker.engines.template_features import features
from potluck_worker.engines.vllm.model_card import ModelCard
from potluck_worker.engines.vllm.quantization import BESIDE_PACKED, PACKED_TYPES, Quantization
from potluck_worker.engines.weight_samples import hash_samples

CONFIG = "config.json"
WEIGHTS_SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

JSON_LIMIT_BYTES = 64 * 2**20
"""The largest JSON file; the largest tokenizers have 35 MB."""

HEADER_LIMIT_BYTES = 100_000_000
"""The largest header of a weights file, as the format has it."""

_WRITING_MODELS = ("LMHeadModel", "ChatModel", "ChatGLMModel")
"""How classes of PyTorch that write are called, of those that end in `Model`."""

_OF_EXPERTS = re.compile(r"\bexperts\.")
"""Weights of experts, of which a token passes through a few; shared ones are called otherwise."""

_ITEM_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BF16": 16, "C64": 64}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, as a header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    """More than the shape says where several are packed into one."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the files of a checkpoint say.

    Values in `config` and `generation` are what stands in the files: of any type.
    """

    folder: Path
    config: Mapping[str, Any]
    """Of the part that speaks, where a model has several."""
    architecture: str
    tensors: Sequence[Tensor]
    generation: Mapping[str, Any]
    """What its maker recommends for sampling; empty for nothing."""
    template: str
    tool_template: str
    """The template for conversations with tools, where it has two."""

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Return what a folder holds.

        Raises:
            ModelFileError: A file is missing or damaged, or the weights are pickles.
            UnsupportedModel: It needs code that comes with it.
        """
        whole = _read_json(folder / CONFIG)
        inner = whole.get("text_config")
        config = whole | inner if isinstance(inner, dict) else whole
        if "auto_map" in whole and "architectures" not in whole:
            raise UnsupportedModel(
                f"{folder.name} needs program code that comes with it, which is never run here."
            )
        template, tool_template = _read_templates(folder)
        generation = folder / "generation_config.json"
        return cls(
            folder=folder,
            config=config,
            architecture=str(whole.get("model_type", "")),
            tensors=[tensor for path in weight_files(folder) for tensor in _read_header(path)],
            generation=_read_json(generation) if generation.exists() else {},
            template=template,
            tool_template=tool_template,
        )

    def number(self, *names: str, default: int | None = None) -> int:
        """Return the first of these numbers that `config.json` has.

        Raises:
            ModelFileError: It has none, and there is no default, or it is not a positive number.
        """
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if type(value) is not int or not 0 < value < 2**40:
                raise ModelFileError(
                    f"{self.folder.name}/{CONFIG} says {name} is {value!r}, which cannot be."
                )
            return value
        if default is None:
            raise ModelFileError(f"{self.folder.name}/{CONFIG} does not say {names[0]}.")
        return default

    @property
    def embeds(self) -> bool:
        """Whether it is made to embed texts, and not to go on with one."""
        if (self.folder / "modules.json").exists():  # as sentence-transformers publishes them
            return True
        name = self.classes[0] if self.classes else ""
        return name.endswith("Model") and not name.endswith(_WRITING_MODELS)

    @property
    def classes(self) -> Sequence[str]:
        """What vLLM would load it as, the first that it knows."""
        names = self.config.get("architectures")
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def training_context_length(self) -> int:
        """Tokens of context that the model was trained for."""
        return self.number("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")

    @property
    def parameter_count(self) -> int:
        """Weights of the model; those that are packed are counted one by one."""
        return sum(self._parameters(tensor) for tensor in self.tensors)

    def _parameters(self, tensor: Tensor) -> int:
        if tensor.name.endswith(BESIDE_PACKED):
            return 0
        if tensor.dtype in PACKED_TYPES and (bits := self._quantization.bits):
            return tensor.size_bytes * 8 // bits
        return tensor.elements

    @property
    def file_bytes(self) -> int:
        """Bytes of all weights as they are stored."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of tensors by their type, the most first."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype] += tensor.size_bytes
        return dict(sizes.most_common())

    @property
    def _quantization(self) -> Quantization:
        return Quantization.of(self.config)

    @property
    def scheme(self) -> str:
        """How weights are stored, in the words that names of models use: `BF16`, `AWQ`, `FP8`."""
        return self._quantization.scheme or next(iter(self.bytes_by_type))

    def tokenizer_sha256(self) -> str:
        """Return a hash over the vocabulary: equal where token ids mean the same.

        Empty where there is no tokenizer.
        """
        path = self.folder / "tokenizer.json"
        if path.exists():
            return _hash_vocabulary(_read_json(path))
        for name in ("tokenizer.model", "tekken.json", "vocab.json"):
            if (path := self.folder / name).exists():
                return hashlib.sha256(path.read_bytes()).hexdigest()
        return ""

    def template_sha256(self) -> str:
        """Return a hash of the chat template."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    @property
    def active_parameter_count(self) -> int:
        """Weights that take part in each token."""
        of_experts = sum(
            self._parameters(tensor) for tensor in self.tensors if _OF_EXPERTS.search(tensor.name)
        )
        if not of_experts:
            return self.parameter_count
        experts = self.number("num_experts", "num_local_experts", "n_routed_experts")
        used = self.number("num_experts_per_tok", default=experts)
        return self.parameter_count - round(of_experts * max(0, experts - used) / experts)

    def inspect(self) -> Inspection:
        """Return what the files say, as all engines have it."""
        parameters, card = self.parameter_count, ModelCard.read(self.folder)
        return Inspection(
            architecture=self.architecture,
            parameter_count=parameters,
            active_parameter_count=self.active_parameter_count,
            quantization=self.scheme,
            bits_per_weight=8 * self.file_bytes / max(1, parameters),
            bytes_by_type=self.bytes_by_type,
            training_context_length=self.training_context_length,
            vocabulary_size=self.number("vocab_size"),
            has_chat_template=bool(self.template),
            template_supports=features(self.template, self.tool_template),
            embeds_only=self.embeds,
            modalities=self.modalities,
            title=card.text("model_name") or self.folder.name,
            lineage=lineage(
                organization=card.text("model_creator"),
                base_models=card.texts("base_model"),
                title=card.text("model_name"),
                tags=card.texts("tags"),
                file_name=self.folder.name,
                has_chat_template=bool(self.template),
            ),
            licence=LicenceWords(
                card.text("license"), card.text("license_name"), card.text("license_link")
            ),
            tokenizer_sha256=self.tokenizer_sha256(),
            template_sha256=self.template_sha256(),
            weights_sha256=hash_samples(weight_files(self.folder)),
            classes=self.classes,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it was made to read."""
        senses = {"vision_config": "images", "audio_config": "audio", "video_config": "video"}
        return ("text", *(what for key, what in senses.items() if self.config.get(key)))


def is_checkpoint(folder: Path) -> bool:
    """Say whether a folder looks like a checkpoint."""
    return (folder / CONFIG).is_file()


def files_of(folder: Path) -> list[Path]:
    """Return the files of a checkpoint, pickles beside its weights left out."""
    return [path for path in folder.iterdir() if path.suffix not in PICKLE_SUFFIXES]


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights.

    Raises:
        ModelFileError: There are none, some are missing, or they are pickles.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        places = _read_json(index).get("weight_map")
        if not isinstance(places, dict):
            raise ModelFileError(f"{folder.name}/{index.name} is damaged. Download it again.")
        # A name is of a file beside it, whatever the index says.
        names = sorted({Path(str(place)).name for place in places.values()})
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelFileError(
                f"{folder.name} lacks {len(missing)} of its {len(names)} files of weights: "
                f"{', '.join(missing[:3])}. Download it again."
            )
        return [folder / name for name in names]
    found = sorted(path for path in folder.glob(f"*{WEIGHTS_SUFFIX}") if path.is_file())
    if whole := [path for path in found if path.name == f"model{WEIGHTS_SUFFIX}"]:
        return whole
    if not found:
        raise _no_weights(folder)
    return found


def _no_weights(folder: Path) -> ModelFileError:
    pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES]
    if pickles:
        return ModelFileError(
            f"{folder.name} has its weights as pickle ({sorted(pickles)[0]}), which can run "
            "program code when it is read, and is never loaded. Get the model as safetensors."
        )
    return ModelFileError(
        f"{folder.name} has a {CONFIG} and no weights: no file ends in {WEIGHTS_SUFFIX}. "
        "Download it again."
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file. Raises `ModelFileError`."""
    where = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > JSON_LIMIT_BYTES:
            raise ModelFileError(f"{where} is larger than {JSON_LIMIT_BYTES // 2**20} MiB.")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{where} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where} is no JSON: {error}. Download it again.") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{where} is no JSON object. Download it again.")
    return value


def _read_header(path: Path) -> list[Tensor]:
    """Return the tensors that a weights file says it has. Raises `ModelFileError`."""
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if length > min(HEADER_LIMIT_BYTES, file_bytes):
                raise ModelFileError(f"{path.name} is no safetensors file. Download it again.")
            header = json.loads(file.read(length))
            tensors = [_tensor(name, entry) for name, entry in header.items() if name[:2] != "__"]
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path.name} is damaged. Download it again.") from error
    expected = 8 + length + sum(tensor.size_bytes for tensor in tensors)
    if expected != file_bytes:
        raise ModelFileError(
            f"{path.name} is truncated: its header speaks of {expected:,} bytes, and it has "
            f"{file_bytes:,}. Download it again."
        )
    return tensors


def _tensor(name: str, entry: Mapping[str, Any]) -> Tensor:
    begin, end = map(int, entry["data_offsets"])
    dtype = str(entry["dtype"])
    bits = _ITEM_BITS.get(dtype) or int(re.sub(r"\D.*", "", dtype[1:]))
    shape = tuple(map(int, entry["shape"]))
    return Tensor(name, dtype, shape, (end - begin) * 8 // bits, end - begin)


def _read_templates(folder: Path) -> tuple[str, str]:
    """Return the chat template, and the one for tools where that is another; empty for none."""
    settings = folder / "tokenizer_config.json"
    said = _read_json(settings).get("chat_template") if settings.exists() else None
    templates: dict[str, str] = {}
    if isinstance(said, str):
        templates["default"] = said
    elif isinstance(said, list):
        templates |= {
            str(t.get("name")): str(t.get("template")) for t in said if isinstance(t, dict)
        }
    if (path := folder / "chat_template.jinja").exists():
        templates["default"] = path.read_text(errors="replace")
    for path in sorted(folder.glob("additional_chat_templates/*.jinja")):
        templates[path.stem] = path.read_text(errors="replace")
    return templates.get("default", ""), templates.get("tool_use", "")


def _hash_vocabulary(tokenizer: Mapping[str, Any]) -> str:
    """Return a hash over the texts of all tokens by their ids."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    texts: dict[int, str] = {}
    if isinstance(vocabulary, dict):
        texts |= {int(number): text for text, number in vocabulary.items()}
    elif isinstance(vocabulary, list):
        texts |= {number: str(entry[0]) for number, entry in enumerate(vocabulary)}
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        texts[int(token["id"])] = f"{token['special']}:{token['content']}"
    digest = hashlib.sha256()
    for number, text in sorted(texts.items()):
        raw = text.encode(errors="surrogatepass")
        digest.update(b"%d:%d:%b" % (number, len(raw), raw))
    return digest.hexdigest()
