# SPDX-License-Identifier: MIT
"""``vdesktop ctl``, ``ps`` and completion, against machines whose guest is the test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_machine import FakeMachine

from vdesktop_core.cli.device import parse_device
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VDESKTOP = str(Path(sys.executable).with_name("vdesktop"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[FakeMachine]:
    made = FakeMachine(tmp_path, name="tested", control=True, devices=({"type": "rng"},))
    async with made:
        await made.start()
        yield made


async def run(*words: str, **variables: str) -> tuple[int, str, str]:
    """Status, output and errors of a command, while the machine's loop runs."""
    process = await asyncio.create_subprocess_exec(
        VDESKTOP,
        *words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | variables,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_ctl_status_shows_the_machine_and_its_slots(machine: FakeMachine) -> None:
    status, text, _ = await run("ctl", "tested", "status")
    assert status == 0
    assert f"tested: running, process {os.getpid()}" in text
    assert "rng0" in text
    found = json.loads((await run("ctl", "tested", "status", "--json"))[1])
    assert (found["name"], found["state"], found["arch"]) == ("tested", "running", "aarch64")
    assert {slot["slot"]: slot["virtio_id"] for slot in found["slots"]}[1] == 4


async def test_ctl_does_what_it_says(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    for words, line in (
        (("pause",), ""),
        (("resume",), ""),
        (("plug", f"disk:{tmp_path}/disk,name=data,ro", "rng"), "data: slot 2\nrng1: slot 3\n"),
        (("reset", "data"), ""),
        (("unplug", "data", "3"), ""),
        (("reset",), ""),
    ):
        assert await run("ctl", "tested", *words) == (0, line, "")
    assert "exits" in (await run("ctl", "tested", "stats"))[1]
    assert json.loads((await run("ctl", "tested", "stats", "--json"))[1])["vm"] == {"exits": 1}
    assert [row["name"] for row in json.loads((await run("ps", "--json"))[1])] == ["tested"]
    assert await run("ctl", "tested", "shutdown", "--force") == (0, "", "")
    await machine.aclose()
    assert (await run("ps"))[1].split() == ["name", "state", "process", "arch", "backend", "CPUs", "memory"]


async def test_ctl_plug_prints_what_was_plugged_before_it_failed(machine: FakeMachine) -> None:
    status, text, line = await run("ctl", "tested", "plug", "rng", "rng,slot=1", "rng")
    assert (status, text) == (1, "rng1: slot 2\n")
    assert line == "vdesktop: slot 1 has 'rng0': unplug it first, or name another slot\n"


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("ctl", "nobody", "status"), 1, "no machine named 'nobody' runs (running: tested)"),
        (("ctl", "tested", "resume"), 1, "is running: this needs it paused"),
        (("ctl", "tested", "unplug", "9"), 1, "slot 9 is empty"),
        (("ctl", "tested", "unplug", "99999999999999999999"), 1, "slot 255 does not exist"),
        (("ctl", "tested", "plug", "disk:"), 1, "only disk:FILE"),
        (("ctl", "tested", "cpus", "0"), 1, "0 is not in the range"),
        (("ctl", "tested", "cpus", "2"), 1, "has 1 to 1 CPUs, not 2"),
        (("ctl", "tested", "shutdown", "--timeout", "0.1"), 1, "nothing that hears a power button"),
        (("ctl", "tested", "shutdown", "--timeout", "-1"), 1, "-1"),
    ],
)
async def test_ctl_refuses_in_one_line(
    machine: FakeMachine, words: tuple[str, ...], status: int, complaint: str
) -> None:
    found, text, line = await run(*words)
    assert (found, text) == (status, "")
    assert complaint in line
    assert line.count("\n") == 1


async def test_guest_that_is_late_has_a_status_of_its_own(machine: FakeMachine) -> None:
    machine.slot(1).write(0x70, 4, 3)  # a driver found it
    status, _, line = await run("ctl", "tested", "unplug", "1", "--timeout", "0.1")
    assert status == 124
    assert "has not let go of it within 0.1 s" in line


async def test_events_are_printed_until_the_machine_ends(machine: FakeMachine) -> None:
    following = asyncio.ensure_future(run("ctl", "tested", "events"))
    door = machine._door
    assert door is not None
    while door.server is None or not any(client.subscribed for client in door.server._clients):
        await asyncio.sleep(0.01)
    await machine.plug({"type": "rng"})
    machine.stop()
    await machine.aclose()
    status, text, _ = await following
    assert status == 0
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["event"] for event in events] == ["plugged", "state", "ended"]


async def test_completion_knows_commands_machines_and_devices(machine: FakeMachine) -> None:
    async def complete(*words: str) -> list[str]:
        line = " ".join(("vdesktop", *words))
        variables = {"_VDESKTOP_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        return [row.partition(",")[2] for row in (await run(**variables))[1].split()]

    assert "ctl" in await complete("c")
    assert await complete("ctl", "te") == ["tested"]
    assert await complete("ctl", "tested", "unp") == ["unplug"]
    assert await complete("ctl", "tested", "unplug", "rn") == ["rng0"]
    assert await complete("ctl", "nobody", "unplug", "rn") == []
    assert await complete("ctl", "tested", "plug", "di") == ["disk:"]


async def test_completion_of_fish_is_a_line_for_each_word(machine: FakeMachine) -> None:
    variables = {
        "_VDESKTOP_COMPLETE": "fish_complete",
        "COMP_WORDS": "vdesktop ctl tested unp",
        "COMP_CWORD": "unp",
    }
    (line,) = (await run(**variables))[1].splitlines()
    kind, word, text = line.split("\t")
    assert (kind, word) == ("plain", "unplug")
    assert text.startswith("Remove the devices")
    assert r"string split -- \t $line" in (await run("completion", "fish"))[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_script_is_printed(shell: str) -> None:
    status, text, _ = await run("completion", shell)
    assert status == 0
    assert f"_VDESKTOP_COMPLETE={shell}_complete" in text


def test_device_text_has_the_keys_of_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk: dict[str, Any] = parse_device("disk:a.img,ro,name=x")
    assert disk["path"] == str(tmp_path / "a.img")
    assert (disk["type"], disk["readonly"], disk["name"]) == ("blk", True, "x")
    assert parse_device("net:user")["backend"] == "user"
    assert parse_device("console:none")["ports"][0]["backend"] == "none"
    assert parse_device("input,kind=mouse,slot=7") == {"type": "input", "kind": "mouse", "slot": 7}
    assert parse_device("third-party,a=true,b=x=y") == {"type": "third-party", "a": True, "b": "x=y"}


@pytest.mark.parametrize(
    "text",
    ["", ",", ":", "disk:", "net:none", "rng:x", "rng,slot", "rng,=1", "rng,a=1,a=2", "rng,type=blk", "a b"],
)
def test_device_text_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_device(text)
