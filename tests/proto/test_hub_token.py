from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from potluck_proto import hub_token
from potluck_proto.home import Home

LIBRARY = """
import json
from pathlib import Path

PLACE = Path(__file__).with_name("secrets.json")

class Backend:
    priority = 5

    def _all(self):
        return json.loads(PLACE.read_text()) if PLACE.exists() else {}

    def set_password(self, service, user, secret):
        PLACE.write_text(json.dumps(self._all() | {f"{service} {user}": secret}))

    def get_password(self, service, user):
        return self._all().get(f"{service} {user}")

    def delete_password(self, service, user):
        kept = self._all()
        del kept[f"{service} {user}"]
        PLACE.write_text(json.dumps(kept))

def get_keyring():
    return Backend()
"""
"""A keyring, as far as it is used, which keeps what it gets beside itself."""


@pytest.fixture(autouse=True)
def imported_anew() -> Iterator[None]:
    known = sys.modules.pop("keyring", None)
    yield
    sys.modules.pop("keyring", None)
    if known:
        sys.modules["keyring"] = known


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Put the library where it is found, by this process and others."""
    (folder / "keyring.py").write_text(LIBRARY + more)
    monkeypatch.syspath_prepend(folder)


def test_a_token_is_in_the_keyring_where_one_works_and_in_no_file(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.hub_token.write_text("old")
    install(tmp_path, monkeypatch)
    assert hub_token.keep(home, "secret") == "the keyring of this account"
    assert not home.hub_token.exists()
    code = "import sys; from pathlib import Path; from potluck_proto import home, hub_token; "
    code += f"sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"print(hub_token.read(home.Home(Path({str(home.root)!r}))))"
    read = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert read.stdout == "secret\n"
    assert not hub_token.read(Home(home.root / "another"))
    hub_token.forget(home)
    assert not hub_token.read(home)


@pytest.mark.parametrize(
    "broken",
    [
        "raise ImportError",
        "raise OSError('no bus')",
        "Backend.priority = 0",
        "def get_keyring(): raise RuntimeError('none')",
        "Backend.set_password = lambda *_: 1 / 0",
        "Backend.get_password = lambda *_: None",
        "Backend.get_password = lambda *_: 1 / 0",
    ],
)
def test_where_the_keyring_does_not_work_the_token_is_in_a_file_for_the_user_alone(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    install(tmp_path, monkeypatch, broken)
    assert hub_token.keep(home, "secret") == str(home.hub_token)
    assert stat.S_IMODE(home.hub_token.stat().st_mode) == 0o600
    assert hub_token.read(home) == "secret"
    hub_token.forget(home)
    assert not home.hub_token.exists()
    assert not hub_token.read(home)
