from __future__ import annotations

import json

from e2e.conftest import Machine


def loaded(machine: Machine) -> dict[str, bool]:
    """Return the models in memory, and whether each is pinned."""
    (node,) = json.loads(machine.potluck("nodes", "--json").stdout)["nodes"]
    return {m["name"]: m.get("pinned", False) for m in node["state"].get("loaded", [])}


def test_a_model_is_loaded_pinned_and_unloaded_from_the_command_line(machine: Machine) -> None:
    machine.add_fake_model("echo")
    (node,) = json.loads(machine.potluck("nodes", "--json").stdout)["nodes"]
    assert machine.potluck("load", "echo").stdout == (
        f"echo is in memory on {node['state']['name']}.\n"
    )
    assert loaded(machine) == {"echo": False}
    assert "stays in memory" in machine.potluck("pin", "echo").stdout
    assert loaded(machine) == {"echo": True}
    assert "gives way" in machine.potluck("pin", "echo", "--off").stdout
    assert "no longer in memory" in machine.potluck("unload", "echo").stdout
    assert loaded(machine) == {}
    again = machine.potluck("unload", "echo")
    assert (again.returncode, again.stderr) == (
        1,
        "potluck: echo is not in memory on any machine.\n",
    )
    unknown = machine.potluck("pin", "nothing")
    assert unknown.returncode == 1
    assert "No machine has 'nothing'" in unknown.stderr


def test_a_machine_is_drained_and_takes_work_again(machine: Machine) -> None:
    machine.add_fake_model("echo")
    (node,) = json.loads(machine.potluck("nodes", "--json").stdout)["nodes"]
    name = node["state"]["name"]
    assert machine.potluck("drain", name).stdout == f"{name} is draining.\n"
    refused = machine.potluck("load", "echo")
    assert refused.returncode == 1
    assert "drained" in refused.stderr
    assert machine.potluck("drain", name, "--off").stdout == f"{name} takes work again.\n"
    assert machine.potluck("load", "echo").returncode == 0
