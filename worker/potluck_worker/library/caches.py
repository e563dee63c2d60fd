"""Models that other programs on this machine have: used where they are, and never changed.

| program | where | what is read |
| --- | --- | --- |
| Ollama | `OLLAMA_MODELS`, `~/.ollama/models`, that of its service | manifests, which name blobs |
| LM Studio | `~/.lmstudio/models`, `~/.cache/lm-studio/models` | folders of makers and models |
| llama.cpp | `LLAMA_CACHE`, the user's cache | GGUF files, and what is noted beside them |
| Hugging Face | `HF_HUB_CACHE`, `HF_HOME/hub`, the user's cache | snapshots, which link to blobs |

A link that leads out of a cache is not followed: who may write there could else have any file of
this user read. What cannot be read, for whatever reason, is passed over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potluck_worker.engines.vllm.checkpoint import (
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    is_checkpoint,
)

GGUF_SUFFIX = ".gguf"

JSON_LIMIT_BYTES = 2**20

OLLAMA_MODEL = "application/vnd.ollama.image.model"
OLLAMA_ADAPTER = "application/vnd.ollama.image.adapter"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNUSUAL = re.compile(r"[^\w.+-]")
"""What names of models have not: they are typed, and are parts of paths."""

_PROJECTOR = re.compile(r"(^|[-_.])mmproj", re.IGNORECASE)
"""Files of the part of a model that sees, which lie beside the model."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A model of another program."""

    path: Path
    """A GGUF file, whatever its ending, or the folder of a checkpoint."""
    name: str
    """What the other program calls it, without an ending."""
    owner: str
    remove_with: str
    """What the user does to be rid of it."""
    problem: str = ""
    """Why it is not used, where it is not."""


def borrowed_models() -> list[Borrowed]:
    """Return the models of all other programs, each file once."""
    found: dict[Path, Borrowed] = {}
    for find, roots in _caches():
        for root in dict.fromkeys(roots):
            for model in _readable(find, root):
                checked = _checked(model, root)
                # A link that is not followed hides nothing of where it leads.
                file = model.path if checked.problem else model.path.resolve()
                found.setdefault(file, checked)
    return list(found.values())


def _caches() -> Iterator[tuple[Callable[[Path], Iterator[Borrowed]], list[Path]]]:
    user = Path.home()
    cache = _named("XDG_CACHE_HOME") or [user / ".cache"]
    ollama = [user / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    yield _ollama, _named("OLLAMA_MODELS") + ollama
    yield _lm_studio, [user / ".lmstudio/models", user / ".cache/lm-studio/models"]
    llama = [place / "llama.cpp" for place in cache]
    yield _llama_cpp, _named("LLAMA_CACHE") + llama + [user / "Library/Caches/llama.cpp"]
    hub = [place / "hub" for place in _named("HF_HOME")]
    hub += [place / "huggingface/hub" for place in cache]
    yield _hugging_face, _named("HF_HUB_CACHE") + hub


def _named(variable: str) -> list[Path]:
    named = os.environ.get(variable)
    return [Path(named).expanduser()] if named else []


def _readable(find: Callable[[Path], Iterator[Borrowed]], root: Path) -> Iterator[Borrowed]:
    """Yield what is found in a cache until something there cannot be read."""
    try:
        if root.is_dir():
            yield from find(root)
    except OSError:
        return


def _checked(model: Borrowed, root: Path) -> Borrowed:
    """Return a model with a plain name, and its problem where its files link out of the cache."""
    model = replace(model, name=_UNUSUAL.sub("_", model.name))
    inside = root.resolve()
    files = [model.path, *(model.path.iterdir() if model.path.is_dir() else ())]
    for file in files:
        if not (target := file.resolve()).is_relative_to(inside):
            problem = (
                f"{file.name} in the cache of {model.owner} is a link to {target}, outside of it, "
                "and is not followed. Put the model itself into a models folder."
            )
            return replace(model, problem=problem)
    return model


def _ollama(root: Path) -> Iterator[Borrowed]:
    """Yield the models of Ollama's manifests, `HOST/NAMESPACE/NAME/TAG`."""
    manifests = root / "manifests"
    # Of several tags of one blob, the one that says most is kept: it comes first.
    for manifest in sorted(manifests.glob("*/*/*/*"), key=_least_said):
        _, _, name, tag = manifest.relative_to(manifests).parts
        layers = _layers(manifest)
        digest = layers.get(OLLAMA_MODEL, "")
        if not _DIGEST.fullmatch(digest) or OLLAMA_ADAPTER in layers:
            continue
        blob = root / "blobs" / digest.replace(":", "-")
        if blob.is_file():
            name = _without_format(name)
            shown = name if tag == "latest" else f"{name}-{tag}"
            yield Borrowed(blob, shown, "Ollama", f"ollama rm {name}:{tag}")


def _least_said(manifest: Path) -> tuple[bool, int, str]:
    return manifest.name == "latest", -len(manifest.name), str(manifest)


def _layers(manifest: Path) -> dict[str, str]:
    """Return the digests of a manifest by the kind of layer."""
    layers = _read_json(manifest).get("layers")
    pairs = layers if isinstance(layers, list) else []
    return {
        str(layer.get("mediaType")): str(layer.get("digest"))
        for layer in pairs
        if isinstance(layer, dict)
    }


def _lm_studio(root: Path) -> Iterator[Borrowed]:
    """Yield LM Studio's models, `MAKER/MODEL/FILE.gguf`, or a checkpoint in `MAKER/MODEL`."""
    remove = "My Models in LM Studio"
    for folder in sorted(root.glob("*/*")):
        if folder.is_dir():
            yield from _in_folder(folder, "LM Studio", remove, name=folder.name)


def _llama_cpp(root: Path) -> Iterator[Borrowed]:
    """Yield llama.cpp's downloads, in whose names the repository stands before the file's."""
    for path in sorted(root.glob(f"*{GGUF_SUFFIX}")):
        if not _PROJECTOR.search(path.name):
            url = _read_json(path.with_name(f"{path.name}.json")).get("url")
            name = str(url).rpartition("/")[2].partition("?")[0] if url else path.name
            remove = f"rm {path}"
            yield Borrowed(path, name.removesuffix(GGUF_SUFFIX), "llama.cpp", remove)


def _hugging_face(root: Path) -> Iterator[Borrowed]:
    """Yield the newest snapshot of each repository, `models--MAKER--NAME/snapshots/COMMIT`."""
    for repository in sorted(root.glob("models--*")):
        name = repository.name.split("--")[-1]
        remove = f"hf cache rm model/{repository.name.removeprefix('models--').replace('--', '/')}"
        if (snapshot := _snapshot(repository)) is not None:
            yield from _in_folder(snapshot, "Hugging Face", remove, name=name)
            for folder in sorted(path for path in snapshot.iterdir() if path.is_dir()):
                yield from _in_folder(folder, "Hugging Face", remove)


def _snapshot(repository: Path) -> Path | None:
    """Return the snapshot that `main` means, else the newest."""
    try:
        commit = (repository / "refs" / "main").read_text()[:200].strip()
    except OSError:
        commit = ""
    snapshots = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
    named = [path for path in snapshots if path.name == commit]
    newest = sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)
    return next(iter(named + newest), None)


def _in_folder(folder: Path, owner: str, remove: str, name: str = "") -> Iterator[Borrowed]:
    """Yield the GGUF files of a folder, and the checkpoint that it is."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    # One with pickles alone is one too, so that somebody hears why it is not used.
    weights = (WEIGHTS_SUFFIX, *PICKLE_SUFFIXES)
    if name and is_checkpoint(folder) and any(path.suffix in weights for path in files):
        yield Borrowed(folder, name, owner, remove)
    for path in files:
        if path.suffix == GGUF_SUFFIX and not _PROJECTOR.search(path.name):
            yield Borrowed(path, path.name.removesuffix(GGUF_SUFFIX), owner, remove)


def _without_format(name: str) -> str:
    """Return a repository's name without the format that stands at its end."""
    return re.sub(r"[-_.]gguf$", "", name, flags=re.IGNORECASE)


def _read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in a file, empty where there is none."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(JSON_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
