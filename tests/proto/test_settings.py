from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from potluck_proto import settings
from potluck_proto.errors import SettingsError
from potluck_proto.home import Home


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1


class Sample(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="POTLUCK_SAMPLE_")

    slots: int = 4
    name: str = "x"
    parts: dict[str, Part] = {}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_command_line_wins_over_the_environment_over_the_file(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.load(Sample, home, "worker", {}).slots == 4
    home.settings_file.write_text("[worker]\nslots = 5\nname = 'file'\n")
    assert settings.load(Sample, home, "worker", {"slots": None}).slots == 5
    monkeypatch.setenv("POTLUCK_SAMPLE_SLOTS", "6")
    assert settings.load(Sample, home, "worker", {}).slots == 6
    loaded = settings.load(Sample, home, "worker", {"slots": 7})
    assert (loaded.slots, loaded.name) == (7, "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[worker]\nslot = 5\n", "no option worker.slot; did you mean 'slots'"),
        ("[worker]\nslots = 'many'\n", "worker.slots cannot be 'many'"),
        ('[worker.parts."a b"]\nsizes = 5\n', "no option worker.parts.a b.sizes"),
        ('[worker.parts."a b"]\nsize = "much"\n', "worker.parts.a b.size cannot be 'much'"),
        ("[wroker]\n", r"no table \[wroker\]"),
        ("slots = = 5", "cannot be read: .*line 1"),
    ],
)
def test_a_mistake_in_the_file_is_said_with_its_place(home: Home, text: str, message: str) -> None:
    home.settings_file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        settings.load(Sample, home, "worker", {})


def test_a_worker_is_called_as_it_is_set_or_as_its_host(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POTLUCK_WORKER_NAME", raising=False)
    assert settings.worker_name(home) == settings.host_name()
    home.settings_file.write_text("[worker]\nname = 'attic'\n")
    assert settings.worker_name(home) == "attic"
    monkeypatch.setenv("POTLUCK_WORKER_NAME", "cellar")
    assert settings.worker_name(home) == "cellar"
