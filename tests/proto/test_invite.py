from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potluck_proto import invite as wire
from potluck_proto.errors import InviteError
from potluck_proto.identity import Role
from potluck_proto.invite import Invite

INVITE = Invite.new(Role.WORKER, "a" * 26, ["192.168.1.7", "fd00::7"], 7422)


def test_a_line_comes_back_as_it_went() -> None:
    line = INVITE.line()
    assert Invite.read(line) == INVITE
    assert len(line) < 120
    assert line.isprintable()
    assert " " not in line


@pytest.mark.parametrize("around", ["  {}\n", "`{}`", '"{}"'])
def test_what_a_chat_puts_around_a_line_does_no_harm(around: str) -> None:
    assert Invite.read(around.format(INVITE.line())) == INVITE


def test_a_line_that_a_terminal_broke_in_two_is_read() -> None:
    line = INVITE.line()
    assert Invite.read(f"{line[:40]}\n  {line[40:]}") == INVITE


def test_a_line_that_was_copied_out_of_a_dialog_is_read() -> None:
    line = INVITE.line()
    assert Invite.read(f"│ {line[:40]} │\n│ {line[40:]}      │") == INVITE


def test_two_invitations_have_different_secrets() -> None:
    other = Invite.new(Role.WORKER, INVITE.pool, ["192.168.1.7"], 7422)
    assert other.secret != INVITE.secret
    assert wire.hashed(other.secret) != wire.hashed(INVITE.secret)


def test_neither_owner_nor_scheduler_can_be_invited() -> None:
    for role in (Role.OWNER, Role.SCHEDULER):
        with pytest.raises(InviteError):
            Invite.read(INVITE.line().replace("worker", role))


@given(st.text(max_size=600))
def test_any_text_is_an_invitation_or_a_named_refusal_that_does_not_repeat_it(text: str) -> None:
    with contextlib.suppress(InviteError):
        Invite.read(text)


@given(st.integers(0, len(INVITE.line()) - 1), st.characters())
def test_a_damaged_line_is_never_an_invitation_with_part_of_a_secret(at: int, other: str) -> None:
    line = INVITE.line()
    with contextlib.suppress(InviteError):
        read = Invite.read(line[:at] + other + line[at + 1 :])
        assert len(read.secret) == wire.SECRET_BYTES
        assert len(read.pool) == len(INVITE.pool)
    with pytest.raises(InviteError) as refused:
        Invite.read(line[:-1])
    assert line[-10:-1] not in refused.value.message


@given(st.binary(max_size=400))
def test_any_message_is_a_map_or_a_named_refusal(packed: bytes) -> None:
    with contextlib.suppress(ValueError):
        message = wire.unpack(packed)
        for name in message:
            with contextlib.suppress(ValueError):
                wire.value(message, name, bytes)
