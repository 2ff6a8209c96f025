# SPDX-License-Identifier: MIT
"""What ``--display``, ``--clipboard`` and ``--files`` add to a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdesktop_core.cli.run import machine_config, run
from vdesktop_core.config import device_type_name

if TYPE_CHECKING:
    from pathlib import Path


def devices(*words: str) -> list[Any]:
    """The devices that ``vdesktop run`` with these words has."""
    options = run.make_context("run", list(words)).params
    return list(machine_config(options).devices)


def agents(*words: str) -> list[Any]:
    return [device for device in devices(*words) if device_type_name(device) == "agent"]


def test_display_adds_screen_hands_and_agent() -> None:
    found = [device_type_name(device) for device in devices("--display", "web")]
    assert [found.count(name) for name in ("gpu", "input", "agent")] == [1, 3, 1]


def test_machine_without_a_display_has_no_agent() -> None:
    assert agents() == []
    assert agents("--clipboard", "both", "--files") == []


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        ((), {}),
        (("--clipboard", "to-guest"), {"clipboard": "to-guest"}),
        (("--no-files",), {"files": False}),
        (("--clipboard", "off"), {"clipboard": "off"}),
        (("--clipboard", "off", "--files"), {"clipboard": "off", "files": True}),
    ],
)
def test_policy_options_are_the_agents_configuration(words: tuple[str, ...], policy: dict[str, Any]) -> None:
    assert agents("--display", "web", *words) == [{"type": "agent", **policy}]


def test_policy_that_lets_nothing_pass_leaves_the_device_out() -> None:
    assert agents("--display", "web", "--clipboard", "off", "--no-files") == []


def test_policy_options_replace_those_of_the_machine_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text('[[device]]\ntype = "agent"\nclipboard = "to-host"\nlimit = "1M"\n')
    assert agents(str(path)) == [{"type": "agent", "clipboard": "to-host", "limit": "1M"}]
    (found,) = agents(str(path), "--clipboard", "both", "--display", "web")
    assert found == {"type": "agent", "clipboard": "both", "limit": "1M"}
