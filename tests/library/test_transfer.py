from __future__ import annotations

import hashlib
import itertools
import json
import random
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.hub import BLOCK_BYTES, COMMIT, FakeHub, HubFile, HubRepo, Trouble
from potluck_proto.errors import DiskFull, HubError
from potluck_worker.library import transfer
from potluck_worker.library.remote import RemoteFile
from potluck_worker.library.transfer import Transfer

KIB = 1024
NAME = "model.gguf"
CONTENT = random.Random(1).randbytes(640 * KIB)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, and no waiting."""
    monkeypatch.setattr(transfer, "PIECE_BYTES", 128 * KIB)
    monkeypatch.setattr(transfer, "NOTE_BYTES", 32 * KIB)
    monkeypatch.setattr(transfer, "RETRY_SECONDS", 0.001)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.repos["maker/model"] = HubRepo({NAME: HubFile(CONTENT)})
        yield hub


def of(content: bytes, **more: str) -> RemoteFile:
    return RemoteFile(
        NAME, len(content), **(more or {"sha256": hashlib.sha256(content).hexdigest()})
    )


def fetch(hub: FakeHub, target: Path, file: RemoteFile | None = None, token: str = "") -> None:
    url = f"{hub.endpoint}/maker/model/resolve/{COMMIT}/{NAME}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    Transfer(url, headers, file or of(CONTENT), target, lambda done: None).run()


def test_a_file_comes_in_pieces_and_is_whole(hub: FakeHub, tmp_path: Path) -> None:
    target = tmp_path / NAME
    fetch(hub, target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert sorted(request.range for request in hub.content_requests) == sorted(
        f"bytes={start}-{start + 128 * KIB - 1}" for start in range(0, 640 * KIB, 128 * KIB)
    )


@pytest.mark.parametrize("size", [0, 1, 128 * KIB, 128 * KIB + 1])
def test_a_file_of_any_size_comes(hub: FakeHub, tmp_path: Path, size: int) -> None:
    content = CONTENT[:size]
    hub.repos["maker/model"].files[NAME] = HubFile(content)
    fetch(hub, tmp_path / NAME, of(content))
    assert (tmp_path / NAME).read_bytes() == content


def kept_bytes(folder: Path) -> int:
    pieces = json.loads((folder / f"{NAME}.note").read_text())["pieces"]
    return sum(done for _, _, done in pieces)


def test_a_token_is_not_told_to_the_network_of_caches(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["maker/model"].token = "secret"
    fetch(hub, tmp_path / NAME, token="secret")
    assert {request.token for request in hub.content_requests} == {""}


def test_a_token_goes_along_where_a_repository_has_another_name_now(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos["maker/new"] = hub.repos.pop("maker/model")
    hub.repos["maker/new"].token = "secret"
    hub.renamed["maker/model"] = "maker/new"
    fetch(hub, tmp_path / NAME, token="secret")
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "private").write_bytes(CONTENT)
    hub.elsewhere = f"file://{tmp_path}/private"
    with pytest.raises(HubError, match="not allowed"):
        fetch(hub, tmp_path / NAME)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_connection_that_is_cut_again_and_again_costs_no_byte_twice(
    hub: FakeHub, tmp_path: Path, tenth: int
) -> None:
    hub.trouble = Trouble(cut_after=128 * KIB * tenth // 10)
    fetch(hub, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert hub.sent_bytes == len(CONTENT)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_is_refused_for_a_moment_is_asked_again(
    hub: FakeHub, tmp_path: Path, status: int
) -> None:
    hub.trouble = Trouble(statuses=[status] * 4, retry_after="0")
    fetch(hub, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_hub_that_goes_on_failing_is_given_up_in_words(hub: FakeHub, tmp_path: Path) -> None:
    hub.trouble = Trouble(statuses=[500] * 1000)
    with pytest.raises(HubError, match="tries brought no more"):
        fetch(hub, tmp_path / NAME)
    assert not (tmp_path / NAME).exists()


def test_a_server_that_is_gone_is_said_in_the_words_of_the_system(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}/"
    with pytest.raises(HubError, match="tries brought no more: Connection refused"):
        Transfer(url, {}, of(CONTENT), tmp_path / NAME, lambda done: None).run()


@pytest.mark.parametrize(
    ("status", "words"), [(401, "token"), (403, "terms"), (404, "has no"), (400, "answers 400")]
)
def test_a_refusal_is_not_asked_again(
    hub: FakeHub, tmp_path: Path, status: int, words: str
) -> None:
    hub.trouble = Trouble(statuses=[status] * 1000)
    with pytest.raises(HubError, match=words):
        fetch(hub, tmp_path / NAME)
    assert len(hub.content_requests) <= transfer.CONNECTIONS


def test_what_came_before_a_break_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.trouble = Trouble(cut_after=50 * KIB, statuses=[])
    answered = itertools.count()

    def break_down(sent: int) -> None:
        if next(answered) >= 6:
            hub.trouble.statuses = [500] * 1000

    hub.trouble.slowly = break_down
    with pytest.raises(HubError):
        fetch(hub, tmp_path / NAME)
    kept = kept_bytes(tmp_path)
    assert 0 < kept < len(CONTENT)
    hub.trouble = Trouble()
    hub.requests.clear()
    fetch(hub, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert kept + hub.sent_bytes == len(CONTENT)


def test_a_note_of_another_file_or_a_part_that_is_too_short_counts_for_nothing(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.trouble = Trouble(statuses=[500] * 1000)
    for damage in ('{"file": 1, "pieces": [[0, 5, 5]]}', "{", "[]", '{"pieces": [[1]]}'):
        (tmp_path / f"{NAME}.part").write_bytes(b"wrong")
        (tmp_path / f"{NAME}.note").write_text(damage)
        hub.trouble = Trouble()
        fetch(hub, tmp_path / NAME)
        assert (tmp_path / NAME).read_bytes() == CONTENT


def test_what_has_the_wrong_hash_is_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="came damaged"):
        fetch(hub, tmp_path / NAME, of(CONTENT, sha256="0" * 64))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_what_came_is_kept(hub: FakeHub, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * KIB, limits[1]))
    try:
        with pytest.raises(DiskFull, match="What came is kept"):
            fetch(hub, tmp_path / NAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = kept_bytes(tmp_path)
    hub.requests.clear()
    fetch(hub, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert len(CONTENT) <= kept + hub.sent_bytes < len(CONTENT) + BLOCK_BYTES


def test_a_small_file_is_checked_as_git_does(hub: FakeHub, tmp_path: Path) -> None:
    sha1 = hashlib.sha1(b"blob %d\0%b" % (len(CONTENT), CONTENT)).hexdigest()
    fetch(hub, tmp_path / NAME, of(CONTENT, git_sha1=sha1))
    with pytest.raises(HubError, match="came damaged"):
        fetch(hub, tmp_path / "again", of(CONTENT, git_sha1="0" * 40))


def test_a_file_that_grew_meanwhile_is_said(hub: FakeHub, tmp_path: Path) -> None:
    hub.trouble = Trouble(grown_by=10)
    with pytest.raises(HubError, match="changed meanwhile"):
        fetch(hub, tmp_path / NAME)
    hub.trouble = Trouble(grown_by=10, no_ranges=True)
    with pytest.raises(HubError, match="changed meanwhile"):
        fetch(hub, tmp_path / NAME)


def test_a_server_without_ranges_sends_the_file_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.trouble = Trouble(no_ranges=True)
    fetch(hub, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.timeout(180)
def test_of_two_hundred_broken_fetches_each_ends_whole_or_says_why(
    hub: FakeHub, tmp_path: Path
) -> None:
    chance = random.Random(2)
    whole = 0
    for number in range(200):
        target = tmp_path / str(number)
        target.mkdir()
        hub.trouble = Trouble(
            cut_after=chance.choice([None, 30_000, 60_000, 100_000]),
            statuses=chance.choices([429, 500, 503, 403], [8, 8, 8, 1], k=chance.randrange(6)),
            no_ranges=chance.random() < 0.05,
            grown_by=chance.choice([0] * 20 + [1]),
        )
        hub.requests.clear()
        try:
            fetch(hub, target / NAME)
        except HubError as error:
            assert error.message.endswith(".")
            assert not (target / NAME).exists()
            continue
        whole += 1
        assert (target / NAME).read_bytes() == CONTENT
        if not hub.trouble.no_ranges:
            # The stand-in may still be sending to the connections of a fetch that failed before.
            late = transfer.CONNECTIONS * BLOCK_BYTES
            assert len(CONTENT) <= hub.sent_bytes < len(CONTENT) + late
        (target / NAME).unlink()
    assert whole > 100
