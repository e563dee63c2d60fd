"""A house with machines, models and an answer that looks real, for tests and pictures."""

from __future__ import annotations

from potluck_proto.errors import EngineMissing, NodeLost, UnsupportedModel
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2

GIBIBYTE = 2**30

ANSWER = """\
A 16 GB card holds most models up to **14B** at four bits. What counts is the weights *plus* the \
cache for the conversation:

| model | Q4_K_M | 8K cache |
|---|---:|---:|
| 8B | 4.9 GB | 1.0 GB |
| 14B | 9.0 GB | 1.6 GB |
| 32B | 19.9 GB | 2.0 GB |

So:

1. Take the **14B** if you chat in one window.
2. Take the *8B* if several people ask at once: each slot needs its own cache.

To see what it would take before you download 20 GB:

```python
def fits(weights_gb: float, cache_gb: float, free_gb: float) -> bool:
    return weights_gb + cache_gb + 0.5 < free_gb  # half a GB for buffers
```

> Layers that do not fit go to the CPU, and cost speed.
"""


def model(
    name: str, quantization: str, gigabytes: float, parameters: float, **more: object
) -> types_pb2.ModelDescription:
    description = types_pb2.ModelDescription(
        name=name,
        quantization=quantization,
        file_bytes=int(gigabytes * GIBIBYTE),
        memory_needed_bytes=int(gigabytes * 1.2 * GIBIBYTE),
        parameter_count=int(parameters * 1e9),
        training_context_length=131072,
        context_length=8192,
        architecture="llama",
        license="apache-2.0",
    )
    description.MergeFrom(types_pb2.ModelDescription(**more))  # type: ignore[arg-type]
    return description


STARTER = model(
    "potluck-starter",
    "Q8_0",
    0.012,
    0.011,
    training_context_length=512,
    context_length=512,
    license="mit",
    starter=True,
    title="Potluck's starter model",
)
LLAMA = model("llama-3.1-8b-instruct", "Q4_K_M", 4.6, 8.03, license="llama3.1")
QWEN = model("qwen2.5-32b-instruct", "Q5_K_M", 21.7, 32.8, architecture="qwen2")
OPT = model("opt-6.7b", "F16", 12.4, 6.7, architecture="opt", license="other")


def house() -> pb.WatchPoolResponse:
    """Return a pool of four machines: a gaming PC, a Mac, an old laptop and one that is lost."""
    problem = UnsupportedModel(
        "llama.cpp does not run the architecture opt; vLLM does: pip install 'potluck[vllm]'."
    ).to_proto()
    broken = types_pb2.ModelDescription()
    broken.CopyFrom(OPT)
    broken.problem.CopyFrom(problem)
    studio = types_pb2.NodeState(
        node_id="1",
        name="studio",
        version="0.1.0",
        devices=[
            types_pb2.Device(
                name="NVIDIA GeForce RTX 4080",
                accelerator=types_pb2.ACCELERATOR_CUDA,
                memory_total_bytes=16 * GIBIBYTE,
                memory_free_bytes=9 * GIBIBYTE,
                memory_others_bytes=GIBIBYTE,
                weights_bytes=int(4.6 * GIBIBYTE),
                kv_cache_bytes=GIBIBYTE,
                utilisation=0.38,
                temperature_celsius=61,
                watts=212,
            ),
            types_pb2.Device(
                name="AMD Ryzen 9",
                accelerator=types_pb2.ACCELERATOR_CPU,
                memory_total_bytes=64 * GIBIBYTE,
                memory_free_bytes=40 * GIBIBYTE,
            ),
        ],
        engines=[
            types_pb2.EngineDescription(name="llama.cpp", version="b7000", available=True),
            types_pb2.EngineDescription(
                name="vLLM", advice="pip install 'potluck[vllm]' on studio, then restart."
            ),
        ],
        models=[LLAMA, broken],
        loaded=[
            types_pb2.LoadedModel(
                name=LLAMA.name,
                quantization=LLAMA.quantization,
                engine="llama.cpp",
                state=types_pb2.MODEL_STATE_READY,
                context_length=8192,
                slots=4,
                slots_busy=1,
                memory_bytes=6 * GIBIBYTE,
            )
        ],
        tokens_per_second=42.4,
        queue_length=0,
    )
    macbook = types_pb2.NodeState(
        node_id="2",
        name="macbook",
        version="0.1.0",
        devices=[
            types_pb2.Device(
                name="Apple M3 Pro",
                accelerator=types_pb2.ACCELERATOR_METAL,
                memory_total_bytes=36 * GIBIBYTE,
                memory_free_bytes=5 * GIBIBYTE,
            )
        ],
        engines=[types_pb2.EngineDescription(name="llama.cpp", version="b7000", available=True)],
        models=[LLAMA, QWEN],
    )
    laptop = types_pb2.NodeState(
        node_id="3",
        name="old-laptop",
        version="0.1.0",
        devices=[
            types_pb2.Device(
                name="Intel i5-6300U",
                accelerator=types_pb2.ACCELERATOR_CPU,
                memory_total_bytes=8 * GIBIBYTE,
                memory_free_bytes=3 * GIBIBYTE,
            )
        ],
        engines=[
            types_pb2.EngineDescription(
                name="llama.cpp", advice="pip install 'potluck[llama]' on old-laptop."
            )
        ],
        models=[STARTER],
        queue_length=2,
    )
    attic = types_pb2.NodeState(node_id="4", name="attic", version="0.1.0")
    return pb.WatchPoolResponse(
        nodes=[
            pb.Node(
                state=studio,
                health=pb.NODE_HEALTH_READY,
                address="192.0.2.10:7421",
                found_by=["zeroconf"],
                age_seconds=0.2,
                round_trip_seconds=0.003,
            ),
            pb.Node(
                state=macbook,
                health=pb.NODE_HEALTH_READY,
                address="192.0.2.11:7421",
                found_by=["zeroconf"],
                age_seconds=0.4,
                round_trip_seconds=0.005,
            ),
            pb.Node(
                state=laptop,
                health=pb.NODE_HEALTH_REFUSED,
                address="192.0.2.12:7421",
                found_by=["static"],
                age_seconds=0.3,
                problem=EngineMissing(
                    "old-laptop has no engine. Install one: pip install 'potluck[llama]'."
                ).to_proto(),
            ),
            pb.Node(
                state=attic,
                health=pb.NODE_HEALTH_LOST,
                address="192.0.2.13:7421",
                age_seconds=320,
                problem=NodeLost("attic has not answered for 5 minutes.").to_proto(),
            ),
        ],
        models=[
            pb.ModelSummary(
                description=LLAMA,
                node_names=["studio", "macbook"],
                loaded_on=["studio"],
                is_default=True,
                usable=True,
            ),
            pb.ModelSummary(description=QWEN, node_names=["macbook"], usable=True),
            pb.ModelSummary(description=broken, node_names=["studio"], usable=False),
            pb.ModelSummary(description=STARTER, node_names=["old-laptop"], usable=True),
        ],
    )


def first_start() -> pb.WatchPoolResponse:
    """Return the pool of somebody who has just installed Potluck."""
    state = types_pb2.NodeState(
        node_id="1",
        name="laptop",
        devices=[
            types_pb2.Device(
                name="CPU",
                accelerator=types_pb2.ACCELERATOR_CPU,
                memory_total_bytes=8 * GIBIBYTE,
                memory_free_bytes=5 * GIBIBYTE,
            )
        ],
        models=[STARTER],
    )
    return pb.WatchPoolResponse(
        nodes=[pb.Node(state=state, health=pb.NODE_HEALTH_READY, age_seconds=0.1)],
        models=[
            pb.ModelSummary(
                description=STARTER, node_names=["laptop"], is_default=True, usable=True
            )
        ],
    )


def log(count: int) -> list[str]:
    """Return lines such as an engine prints, one of them hostile to a terminal."""
    lines = [
        f"2026-11-24 18:43:{number % 60:02} load_tensors: line {number} of the engine, which is "
        f"long enough to be wrapped at eighty columns"
        for number in range(1, count + 1)
    ]
    lines[-2] = "2026-11-24 18:43:31 \x1b]0;owned\x07 and \u202egnp.exe"
    return lines


def pieces(text: str, length: int = 4) -> list[str]:
    """Cut a text into pieces of about a token."""
    return [text[start : start + length] for start in range(0, len(text), length)]
