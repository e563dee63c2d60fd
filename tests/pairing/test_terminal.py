from __future__ import annotations

from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, Static

from pairing.conftest import House, ask
from potluck_proto.home import Home
from potluck_proto.identity import Identity, Role
from potluck_proto.invite import Invite
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import joining
from potluck_tui.app import PotluckApp
from potluck_tui.screens.nodes import NodesScreen
from tui.stage import until


async def words(pilot: Pilot[None], part: str) -> str:
    """Return the words of the screen on top, once they have some part."""
    shown = pilot.app.screen.query_one("#words", Static)
    await until(pilot, lambda: part in str(shown.visual))
    return str(shown.visual)


async def test_a_machine_joins_with_the_line_that_the_terminal_shows(house: House) -> None:
    app = PotluckApp(house.owner, house.home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4", "i", "c")
        line = (await words(pilot, "potluck1/client/")).splitlines()[-1]
        await joining.join(Invite.read(line), house.machine("couch"), "couch", 0)
    assert [member.name for member in house.daemon.pairing.members] == ["couch"]


async def test_the_terminal_joins_with_a_line_that_it_does_not_show(house: House) -> None:
    await house.paired_worker()
    couch, line = house.machine("couch"), await house.invite(Role.CLIENT)
    app = PotluckApp(house.owner, couch)
    async with app.run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4", "J")
        app.screen.query_one(Input).post_message(events.Paste(line))
        await pilot.press("enter")
        said = await words(pilot, "Joined the pool")
        assert "potluck leave" in said
        assert line.rpartition("/")[2] not in app.export_screenshot()
    identity = Identity.read(couch.identity_file(Role.CLIENT))
    assert await ask(house.client(couch, identity)) == "Hello from attic."


async def test_a_machine_that_is_not_of_the_pool_is_shown_with_how_to_invite_it(
    house: House,
) -> None:
    app = PotluckApp(house.owner, Home(house.folder / "hall"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4")
        pool = pb.WatchPoolResponse(strangers=[pb.Stranger(name="bath\x1b", address="10.0.0.9")])
        screen = app.screen
        assert isinstance(screen, NodesScreen)
        app.session.pool = type(app.session.pool).from_proto(pool)
        screen.show_news(app.session)
        shown = str(screen.query_one("#strangers", Static).visual)
    assert "bath\ufffd at 10.0.0.9, on its own" in shown
    assert "potluck join" in shown
