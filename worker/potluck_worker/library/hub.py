"""The model hub, through `huggingface_hub`: what it has, and fetching it. Runs in a child only.

`HF_ENDPOINT` names a mirror. A token is the user's own: Potluck's, else what Hugging Face's
tools keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when the library is imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import httpx2
from huggingface_hub import HfApi, ModelInfo, get_session, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from potluck_proto.errors import BadRequest, HubError
from potluck_worker.engines.inspection import LicenceWords
from potluck_worker.library.hashes import sha256_of
from potluck_worker.library.remote import (
    RemoteFile,
    Repository,
    Variant,
    check_repository,
    choose,
    unreachable,
    variants,
)
from potluck_worker.library.staging import held, require_disk
from potluck_worker.library.transfer import REASON, Transfer, refusal

API_SECONDS = 10.0
"""Of silence; what asks has a limit for all of an answer."""

MOST_HITS = 100

_EXPANDED = ("downloads", "likes", "gated", "tags", "gguf", "safetensors", "siblings")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a pull brought: verified files in a folder, to be put among the models.

    Files that were there already are not in it.
    """

    staging: str
    variant: Variant
    repository: str
    revision: str


class Hub:
    """The hub, as one user sees it.

    Args:
        token: What Potluck keeps; empty where it keeps none.
    """

    def __init__(self, token: str) -> None:
        self._token = token or get_token()
        self._api = HfApi(token=self._token or False)
        self._headers = build_hf_headers(token=self._token or False, library_name="potluck")

    def search(self, query: str, limit: int) -> list[Repository]:
        """Return repositories with GGUF files, the most fetched first. Raises `PotluckError`."""
        with _in_words(f"a search for {query!r}"):
            # Not the library's own search: without a network it tries again for half a minute.
            response = get_session().get(
                f"{self._api.endpoint}/api/models",
                params={
                    "search": query,
                    "filter": "gguf",
                    "sort": "downloads",
                    "limit": min(limit or 20, MOST_HITS),
                    "expand": _EXPANDED,
                },
                headers=self._headers,
                timeout=API_SECONDS,
            )
            hf_raise_for_status(response)
            describe: Callable[..., ModelInfo] = ModelInfo
            return [_repository(describe(**found)) for found in response.json()]

    def repository(self, name: str) -> Repository:
        """Return a repository with its files. Raises `PotluckError`."""
        check_repository(name)
        with _in_words(name):
            return _repository(self._api.model_info(name, files_metadata=True, timeout=API_SECONDS))

    def pull(
        self,
        name: str,
        wanted: str,
        room_bytes: int | None,
        downloads: Path,
        models: Path,
        report: Callable[[str, int, int], None],
    ) -> Fetched:
        """Fetch a model.

        Args:
            name: The repository.
            wanted: A quantization or a file; empty is the best that probably fits.
            room_bytes: What a model may take in memory.
            downloads: Where files grow; what came before a break is used again.
            models: Where the model will go.
            report: Called with the variant, and the bytes that are there and of all.

        Raises:
            PotluckError: It cannot be fetched, and why.
        """
        repository = self.repository(name)
        variant = choose(name, variants(repository), wanted, room_bytes)
        report(variant.name, 0, variant.size_bytes)
        staging = downloads / _staging_name(repository, variant)
        fetched = Fetched(str(staging), variant, name, repository.revision)
        places = [models / variant.folder / file.local_name for file in variant.files]
        there = [_is_whole(*pair) for pair in zip(places, variant.files, strict=True)]
        if all(there):
            return fetched
        _require_free_names(variant, places, there)
        with held(staging):
            require_disk(staging, variant.size_bytes, variant.name)
            before = 0
            for file, is_there in zip(variant.files, there, strict=True):
                target = staging / file.local_name
                if not (is_there or _is_whole(target, file)):
                    self._fetch(repository, file, target, _Shifted(report, variant, before))
                before += file.size_bytes
                report(variant.name, before, variant.size_bytes)
        return fetched

    def _fetch(
        self, repository: Repository, file: RemoteFile, target: Path, report: Callable[[int], None]
    ) -> None:
        url = hf_hub_url(repository.name, file.name, revision=repository.revision)
        Transfer(url, self._headers, file, target, report).run()


@dataclass(frozen=True, slots=True)
class _Shifted:
    """Reports the bytes of one file as those of all."""

    report: Callable[[str, int, int], None]
    variant: Variant
    before: int

    def __call__(self, done: int) -> None:
        self.report(self.variant.name, self.before + done, self.variant.size_bytes)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turn what the hub's library raises into our errors."""
    try:
        yield
    except HFValidationError as error:
        raise BadRequest(f"{what} is no repository of the hub.") from error
    except HfHubHTTPError as error:
        reason = error.response.headers.get(REASON, "")
        raise refusal(error.response.status_code, what, reason) from error
    except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
        raise unreachable(what, str(error) or type(error).__name__) from error
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise HubError(
            f"The hub's answer on {what} makes no sense. Is HF_ENDPOINT right?"
        ) from error


def _repository(info: ModelInfo) -> Repository:
    gguf: Any = info.gguf if isinstance(info.gguf, dict) else {}
    tags = [str(tag) for tag in info.tags or []]
    card: Any = vars(info.card_data) if info.card_data else {}
    tensors = info.safetensors.total if info.safetensors else 0
    files = [_file(sibling) for sibling in info.siblings or []]
    return Repository(
        name=info.id,
        revision=info.sha or "",
        parameter_count=int(gguf.get("total") or tensors or 0),
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        gated=bool(info.gated),
        licence=LicenceWords(
            str(card.get("license") or _tagged(tags, "license:")),
            str(card.get("license_name") or ""),
            str(card.get("license_link") or ""),
        ),
        base_models=_bases(tags),
        format="gguf" if gguf or "gguf" in tags else "safetensors",
        architecture=str(gguf.get("architecture") or ""),
        training_context_length=int(gguf.get("context_length") or 0),
        files=files,
    )


def _file(sibling: Any) -> RemoteFile:
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, int(sibling.lfs.size), sha256=sibling.lfs.sha256)
    return RemoteFile(sibling.rfilename, sibling.size or 0, git_sha1=sibling.blob_id or "")


def _tagged(tags: Sequence[str], prefix: str) -> str:
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), "")


def _bases(tags: Sequence[str]) -> list[str]:
    """Return what a repository's models were made from, without how."""
    named = [tag.removeprefix("base_model:") for tag in tags if tag.startswith("base_model:")]
    return list(dict.fromkeys(name.rpartition(":")[2] for name in named))


def _staging_name(repository: Repository, variant: Variant) -> str:
    """Return a folder's name, another for each state of the repository."""
    return f"{repository.name.replace('/', '--')}--{variant.name}--{repository.revision[:12]}"


def _require_free_names(variant: Variant, places: Sequence[Path], there: Sequence[bool]) -> None:
    """Raise `BadRequest` where another model has a name that this one would take."""
    taken = [
        place.parent if variant.folder else place
        for place, is_there in zip(places, there, strict=True)
        if not is_there and (place.parent if variant.folder else place).exists()
    ]
    if taken:
        raise BadRequest(
            f"{taken[0]} is there already, with other content. Rename it, or delete it with "
            "`potluck rm`."
        )


def _is_whole(path: Path, file: RemoteFile) -> bool:
    """Say whether a file is there already, to the last byte."""
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    return not file.sha256 or sha256_of(path) == file.sha256
