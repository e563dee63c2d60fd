from __future__ import annotations

import os
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest
from potluck_tui import files
from potluck_tui.files import FILE_LIMIT_BYTES
from potluck_tui.views import AttachedFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    (tmp_path / "my notes.md").write_text("three")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.py").write_text("four")
    (tmp_path / ".hidden").write_text("five")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Read @notes.txt, please", ["notes.txt"]),
        ('Read @"my notes.md" and @sub/deep.py.', ["my notes.md", "sub/deep.py"]),
        ("@notes.txt @notes.txt", ["notes.txt"]),
        ("ada@notes.txt", []),
        ("@pytest.fixture\n@sub\n@nobody", []),
        ("@~nobody-of-this-name/x @\0 @" + "x" * 5000, []),
        ("(@notes.txt)", []),
    ],
)
def test_a_prompt_names_the_files_that_there_are(folder: Path, text: str, names: list[str]) -> None:
    assert [file.name for file in files.attached(text, [folder])] == names


def test_a_path_means_the_first_folder_that_has_it(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("elsewhere")
    (read,) = files.attached("@notes.txt", [other, folder])
    assert read.content == "elsewhere"
    (read,) = files.attached(f"@{folder}/notes.txt", [other])
    assert read.content == "one\ntwo\n"


def test_what_is_known_comes_before_the_disk(folder: Path) -> None:
    known = AttachedFile("notes.txt", "as it was")
    assert files.attached("@notes.txt", [folder], [known]) == [known]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a" * (FILE_LIMIT_BYTES + 1), "has 1 MiB; a prompt with its files has room for 1 MiB"),
        (b"\x7fELF\x02\x01\x01\0", "is not text: it has a zero byte at 8"),
        (b"caf\xe9 au lait", "is not text: byte 4 of 12 is not UTF-8"),
        (b"\xff\xfea", "is not text: byte 3 of 3 is not UTF-16"),
    ],
)
def test_a_file_that_cannot_go_along_says_why_with_numbers(
    folder: Path, content: bytes, words: str
) -> None:
    (folder / "file").write_bytes(content)
    with pytest.raises(BadRequest, match=words):
        files.attached("@file", [folder])


def test_a_large_file_is_not_read_whole_to_be_refused(folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BadRequest, match="has 1024 GiB"):
        files.attached("@huge", [folder])
    assert "too large" in files.described("@huge", [folder])


def test_text_of_other_systems_is_read(folder: Path) -> None:
    (folder / "windows").write_bytes("﻿crème".encode())
    (folder / "utf16").write_bytes("crème".encode("utf-16"))
    texts = [file.content for file in files.attached("@windows @utf16", [folder])]
    assert texts == ["crème", "crème"]


def test_a_pipe_does_not_hang_the_prompt(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert files.attached("@pipe", [folder]) == []
    with pytest.raises(BadRequest, match="is not a file"):
        files.read(folder / "pipe", "pipe")


def test_an_unreadable_file_is_said(folder: Path) -> None:
    with pytest.raises(BadRequest, match="gone cannot be read"):
        files.read(folder / "gone", "gone")


def test_too_many_files_are_said(folder: Path) -> None:
    for number in range(files.FILES_LIMIT + 1):
        (folder / f"f{number}").write_text("x")
    text = " ".join(f"@f{number}" for number in range(files.FILES_LIMIT + 1))
    with pytest.raises(BadRequest, match="names 21 files; 20 can go"):
        files.attached(text, [folder])


def test_files_are_described_before_they_are_sent(folder: Path) -> None:
    known = AttachedFile("kept", "xyz")
    words = files.described("@notes.txt @kept @nothing", [folder], [known])
    assert words == "notes.txt (8 B), kept (3 B)"


def test_a_path_that_names_no_file_is_said_once_it_is_typed(folder: Path) -> None:
    text = "@notes.txt, @kept.md @gone.txt. @team me@x.org @sub/x"
    known = [AttachedFile("kept.md", "x")]
    assert files.missing(text, [folder], known) == ["gone.txt.", "sub/x"]
    assert files.missing(text, [folder], known, typing="sub/x") == ["gone.txt."]


def test_a_name_of_what_is_no_file_is_said_too(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert files.missing("@pipe @sub @team", [folder]) == ["pipe", "sub"]


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ("", ["my notes.md", "notes.txt", "sub/"]),
        ("n", ["notes.txt"]),
        ("sub/", ["sub/deep.py"]),
        (".h", [".hidden"]),
        ("x", []),
        ("nowhere/", []),
    ],
)
def test_paths_are_completed(folder: Path, typed: str, paths: list[str]) -> None:
    assert files.completions(typed, [folder]) == paths
    absolute = files.completions(f"{folder}/{typed}", [Path("/")])
    assert absolute == [f"{folder}/{path}" for path in paths]


@pytest.mark.parametrize(
    ("before", "typed"),
    [("Read @no", "no"), ("Read @", ""), ('@"my no', "my no"), ("a@b", None), ("@a b", None)],
)
def test_a_path_is_typed_behind_an_at_sign(before: str, typed: str | None) -> None:
    assert files.unfinished(before) == typed


def test_a_completed_path_is_named_so_that_it_is_found_again() -> None:
    assert files.as_mention("a.txt") == "@a.txt "
    assert files.as_mention("a b.txt") == '@"a b.txt" '
    assert files.as_mention("a b/") == '@"a b/'
    assert files.as_mention("a b", whole=False) == '@"a b'
    assert files.common_beginning(["notes-1", "notes-2"]) == "notes-"


def test_pasted_texts_are_kept_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "pasted"
    assert files.keep_pasted("one", folder) == "pasted-1.txt"
    assert files.keep_pasted("two", folder) == "pasted-2.txt"
    assert (folder / "pasted-1.txt").stat().st_mode & 0o777 == 0o600
    os.utime(folder / "pasted-1.txt", (100, 100))
    files.forget_pasted(folder, before_unix_seconds=200)
    assert [path.name for path in folder.iterdir()] == ["pasted-2.txt"]
    assert files.keep_pasted("three", folder) == "pasted-1.txt"
    files.forget_pasted(tmp_path / "nowhere", 200)
