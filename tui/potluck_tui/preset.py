"""How tokens are drawn, as a person sets it: plain values, their ranges, and text fields.

An empty field leaves the matter to the model: its file's own recommendation where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.clean import clean

NAME_CHARACTERS = 40
STOP_SEPARATOR = " | "
"""Between the texts that end an answer, in their one field."""

SEED_LIMIT = 2**64


NumberName = Literal["temperature", "top_p", "min_p", "max_tokens", "seed"]
"""As in the contract's `Sampling`."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number that can be set."""

    name: NumberName
    words: str
    low: float
    high: float
    hint: str
    whole: bool = False

    def read(self, text: str) -> float | None:
        """Return what a field says, `None` for an empty one. Raises `BadRequest`."""
        text = text.strip().replace("_", "")
        if not text:
            return None
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            kind = "a whole number" if self.whole else "a number"
            raise BadRequest(f"{self.words} is {kind}; {text!r} is none.") from None
        if not self.low <= value <= self.high:  # also catches what is not a number at all
            raise BadRequest(
                f"{self.words} is between {self.low:g} and {self.high:g}; {text} is not."
            )
        return value


NUMBERS = (
    Number("temperature", "Temperature", 0, 10, "0: the likeliest token always"),
    Number("top_p", "Top-p", 0, 1, "the likeliest, up to this sum"),
    Number("min_p", "Min-p", 0, 1, "drops all below this share"),
    Number("max_tokens", "Max tokens", 1, 1e9, "for one answer", whole=True),
    Number("seed", "Seed", 0, SEED_LIMIT - 1, "the same draws the same again", whole=True),
)

THINKING = {"as the model does": None, "on": True, "off": False}
"""Whether a model that can think first shall, in the words of the dialog."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How answers are drawn: the options that people use, and whatever else is set."""

    name: str = ""
    numbers: Mapping[NumberName, float] = field(default_factory=dict)
    """By name; what is missing is left to the model."""
    stop: tuple[str, ...] = ()
    thinking: bool | None = None
    others: bytes = b""
    """A serialized `Sampling` with the options that this program does not know, kept as it is."""

    @property
    def label(self) -> str:
        """What the status line says: its name, `custom`, or nothing where all is left alone."""
        if self.name:
            return self.name
        return "" if self == Preset() else "custom"

    @classmethod
    def from_proto(cls, preset: pb.Preset) -> Preset:
        """Take a preset apart."""
        others = types_pb2.Sampling()
        others.CopyFrom(preset.sampling)
        numbers = {}
        for number in NUMBERS:
            if others.HasField(number.name):
                numbers[number.name] = _shortest(getattr(others, number.name))
                others.ClearField(number.name)
        stop = tuple(clean(text) for text in others.stop)
        others.ClearField("stop")
        return cls(
            name=clean(preset.name),
            numbers=numbers,
            stop=stop,
            thinking=preset.thinking if preset.HasField("thinking") else None,
            others=others.SerializeToString(),
        )

    def to_proto(self) -> pb.Preset:
        """Return the preset as the contract has it."""
        sampling = types_pb2.Sampling.FromString(self.others)
        for name, value in self.numbers.items():
            setattr(sampling, name, value)
        sampling.stop.extend(self.stop)
        preset = pb.Preset(name=self.name, sampling=sampling)
        if self.thinking is not None:
            preset.thinking = self.thinking
        return preset

    def fields(self) -> dict[str, str]:
        """Return the texts of the dialog's fields."""
        return {
            **{number.name: _text(self.numbers.get(number.name)) for number in NUMBERS},
            "stop": STOP_SEPARATOR.join(text.replace("\n", "\\n") for text in self.stop),
        }

    def read(self, texts: Mapping[str, str], thinking: bool | None) -> Preset:
        """Return the preset with what stands in the dialog's fields. Raises `BadRequest`."""
        read = {number.name: number.read(texts[number.name]) for number in NUMBERS}
        parts = [part.strip(" ") for part in texts["stop"].split(STOP_SEPARATOR.strip())]
        return replace(
            self,
            numbers={name: value for name, value in read.items() if value is not None},
            stop=tuple(part.replace("\\n", "\n") for part in parts if part),
            thinking=thinking,
        )


def check_name(name: str) -> str:
    """Return a preset's name without the space around it. Raises `BadRequest`."""
    name = name.strip()
    if not name or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise BadRequest(f"A preset is kept by its name, of 1 to {NAME_CHARACTERS} characters.")
    return name


def _shortest(value: float) -> float:
    """Return a number as it was typed: the contract keeps 0.7 in 32 bits, as 0.69999998."""
    return value if isinstance(value, int) else float(f"{value:.7g}")


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)
