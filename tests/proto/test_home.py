from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from potluck_proto.errors import HomeError
from potluck_proto.home import SOCKET_PATH_LIMIT_BYTES, Home, write_private


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POTLUCK_HOME", str(tmp_path))
    assert Home.default().root == tmp_path
    monkeypatch.delenv("POTLUCK_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Home.default().root == Path("/data/potluck")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/somebody")
    assert Home.default().root == Path("/somebody/.local/share/potluck")


def test_a_prepared_home_is_private(short_tmp: Path) -> None:
    home = Home(short_tmp / "home")
    home.prepare()
    for folder in (home.root, home.models, home.logs, home.scheduler_socket.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_ids_stay_and_differ_between_homes(short_tmp: Path) -> None:
    first, second = Home(short_tmp / "a"), Home(short_tmp / "b")
    first.prepare()
    second.prepare()
    assert first.node_id() == Home(short_tmp / "a").node_id() != second.node_id()


def test_a_home_whose_sockets_cannot_have_names_says_the_numbers(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 120))
    length = len(str(home.scheduler_socket))
    with pytest.raises(HomeError, match=f"is {length} bytes long.*{SOCKET_PATH_LIMIT_BYTES}"):
        home.prepare()


def test_a_home_that_is_a_file_is_refused_in_words(short_tmp: Path) -> None:
    (short_tmp / "file").touch()
    with pytest.raises(HomeError, match="set POTLUCK_HOME to another folder"):
        Home(short_tmp / "file").prepare()


@pytest.mark.parametrize("name", ["run", "identity"])
def test_a_folder_of_keys_or_sockets_that_others_can_enter_is_refused(
    short_tmp: Path, name: str
) -> None:
    home = Home(short_tmp / "home")
    home.prepare()
    (home.root / name).chmod(0o750)
    with pytest.raises(HomeError, match=f"{name} is open to other users.*chmod 700"):
        home.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_sockets_that_is_somebody_elses_is_refused(short_tmp: Path) -> None:
    home = Home(short_tmp / "home")
    home.prepare()
    os.chown(home.scheduler_socket.parent, 12_345, -1)
    with pytest.raises(HomeError, match="owner 12345"):
        home.prepare()


def test_a_private_file_is_replaced_at_once_and_readable_by_one(short_tmp: Path) -> None:
    path = short_tmp / "file"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(short_tmp.iterdir()) == [path]
