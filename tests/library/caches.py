"""The caches of other programs, laid out in a home as those programs do."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from engines.driving import STARTER


def starter(path: Path) -> Path:
    """Put a real model at a path, with folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(STARTER.read_bytes())
    return path


def ollama(
    user: Path, name: str = "llama3.1", *tags: str, adapter: bool = False, content: bytes = b""
) -> Path:
    """Add a model of Ollama, the starter model where no content is given; return its blob."""
    root = user / ".ollama/models"
    content = content or STARTER.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
        {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'0' * 64}"},
    ]
    if adapter:
        layers.append({"mediaType": "application/vnd.ollama.image.adapter", "digest": "x"})
    for tag in tags or ("latest",):
        manifest = root / "manifests/registry.example/library" / name / tag
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


def hugging_face(user: Path, repository: str, *names: str) -> Path:
    """Add files to a repository of the hub's cache; return the snapshot."""
    folder = user / ".cache/huggingface/hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("a" * 40)
    for number, name in enumerate(names):
        blob = starter(folder / "blobs" / f"{number:064d}")
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def fingerprint(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what would differ if anything below a folder were changed."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found
