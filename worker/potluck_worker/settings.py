"""The worker's settings: table `[worker]` of `settings.toml`, or `POTLUCK_WORKER_…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from potluck_proto.settings import host_name
from potluck_worker.engines.base import KvType
from potluck_worker.engines.formats import FORMATS
from potluck_worker.engines.sizing import Options


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the settings want one model to be held."""

    options: Options
    shorten: bool
    """Whether its context may be shorter where it does not fit; not where its own table has one."""
    pinned: bool
    prompt_format: str = ""
    """In place of the file's chat template."""


class ModelSettings(BaseModel):
    """What one model has for itself: table `[worker.models."NAME"]` or `"NAME:QUANTIZATION"`."""

    model_config = ConfigDict(extra="forbid")

    context_length: int | None = Field(None, ge=16)
    """Tokens for each conversation. It is never shortened: the model is loaded so or not at all."""

    slots: int | None = Field(None, ge=1, le=64)
    """Conversations at once."""

    kv_type: KvType | None = None
    """What the cache stores: see `worker.kv_type`."""

    gpu_layers: int | None = Field(None, ge=0)
    """Layers on graphics cards."""

    flash_attention: bool | None = None
    """Whether attention is computed in one pass."""

    pinned: bool = False
    """Keep it in memory when other programs need memory."""

    template: str = ""
    """A prompt format in the place of the file's chat template, such as `chatml`, `alpaca` or
    `completion`; for files that come without one."""

    @field_validator("template")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name and name not in FORMATS:
            raise ValueError(f"there is no prompt format {name!r}; there are {', '.join(FORMATS)}")
        return name


class WorkerSettings(BaseSettings):
    """How one worker behaves."""

    model_config = SettingsConfigDict(env_prefix="POTLUCK_WORKER_", extra="forbid")

    name: str = Field(default_factory=host_name, min_length=1, max_length=40)
    """What people call this machine."""

    listen: str = ""
    """HOST:PORT for the scheduler of the pool that this machine joined; empty is port 7421 on all
    networks, or a free port where that is taken. Without a pool nobody is listened to."""

    model_paths: list[Path] = []
    """Model files, or folders of them, beside the home's own `models`."""

    use_caches: bool = True
    """Use the models that Ollama, LM Studio, llama.cpp and Hugging Face have on this machine, where
    they are; nothing of them is changed."""

    context_length: int = Field(4096, ge=16)
    """Tokens for each conversation; a model trained for less gets what it was trained for, and one
    that does not fit gets what does, but no less than 2,048."""

    slots: int = Field(4, ge=1, le=64)
    """Conversations at once for each model."""

    kv_type: KvType = "f16"
    """What the cache of keys and values stores: `q8_0` takes about half of `f16` and costs hardly
    any quality, `q4_0` about a quarter and costs some. Both need flash attention."""

    gpu_layers: int | None = Field(None, ge=0)
    """Layers on graphics cards; by default all, or as many as fit."""

    flash_attention: bool | None = None
    """Whether attention is computed in one pass, which takes less memory in long contexts; by
    default where it is faster, or needed."""

    models: dict[str, ModelSettings] = {}
    """What single models have for themselves, by NAME or NAME:QUANTIZATION."""

    threads: int | None = Field(None, ge=1)
    """Threads for each engine; by default the physical cores."""

    vllm_python: Path | None = None
    """The Python in which vLLM is installed, such as `/opt/vllm/bin/python`; by default the
    worker's own."""

    memory_margin_bytes: int = Field(256 * 2**20, ge=0)
    """Main memory that loading a model leaves free for everything else."""

    card_margin_bytes: int = Field(512 * 2**20, ge=0)
    """The same on each graphics card."""

    yield_memory: bool = True
    """Unload models that nobody uses when other programs leave less than half of a margin free."""

    drain_seconds: float = Field(30, ge=0)
    """What answers get to end when their model is unloaded or the node drained."""

    idle_exit_seconds: float = Field(0, ge=0)
    """End after this long without a scheduler that watches; 0 is never."""

    tags: list[str] = []
    """Facts about this node that requests may ask for."""

    def wanted(self, name: str, quantization: str, engine: str = "llama") -> Wanted:
        """Return how a model is to be held; its own table counts first. Case does not matter.

        For vLLM, what it has no choice of counts where it stands in the model's own table alone.
        """
        tables = {key.lower(): table for key, table in self.models.items()}
        own = tables.get(f"{name}:{quantization}".lower()) or tables.get(name.lower())
        own = own or ModelSettings()
        for_all = _options(self)
        if engine == "vllm":
            for_all = Options(for_all.context_length, for_all.slots, kv_type="f16")
        options = _options(own).over(for_all)
        return Wanted(options, own.context_length is None, own.pinned, own.template)

    def how_models_are_held(self) -> dict[str, object]:
        """Return the options on which plans depend."""
        names = {"context_length", "slots", "kv_type", "gpu_layers", "flash_attention", "models"}
        return self.model_dump(mode="json", include=names | {"vllm_python"})


def _options(said: ModelSettings | WorkerSettings) -> Options:
    return Options(
        context_length=said.context_length,
        slots=said.slots,
        kv_type=said.kv_type,
        gpu_layers=said.gpu_layers,
        flash_attention=said.flash_attention,
    )
