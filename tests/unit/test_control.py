# SPDX-License-Identifier: MIT
"""The control socket, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from control_rig import PATIENCE, Served

from vdesktop_core.control import protocol, server
from vdesktop_core.control.client import Client, RefusedError
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "vdesktop"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    yield made
    made.close()


async def test_requests_are_answered_in_their_order(served: Served) -> None:
    wire = await served.greeted()
    await wire.send(b'{"id":1,"do":"pause"}\n\n  \n{"id":2,"do":"resume"}\n{"id":3,"do":"sta')
    assert await wire.line() == {"id": 1, "ok": {}}
    assert await wire.line() == {"id": 2, "error": "it is not paused", "kind": "Config"}
    await wire.send(b'tus"}\n')
    assert await wire.line() == {"id": 3, "ok": {"state": "running"}}
    assert served.machine.paused == 1


async def test_bug_in_a_request_is_told_and_the_machine_serves_on(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await served.greeted()
    answer = await wire.ask(id=1, do="reset")
    assert answer == {"id": 1, "error": "internal error: RuntimeError: a bug", "kind": "Internal"}
    assert "a bug" in caplog.text
    assert await served.answers()


async def test_script_that_closes_its_half_hears_the_answers(served: Served) -> None:
    wire = await served.greeted()
    await wire.send(b'{"id":1,"do":"status"}\n{"id":2,"do":"pause"}\n')
    wire.socket.shutdown(socket.SHUT_WR)
    assert [await wire.line() for _ in range(3)] == [
        {"id": 1, "ok": {"state": "running"}},
        {"id": 2, "ok": {}},
        None,
    ]


async def test_line_without_end_is_refused_and_the_client_sent_away(served: Served) -> None:
    wire = await served.greeted()
    with contextlib.suppress(ConnectionError):
        await wire.send(b"x" * (3 * protocol.REQUEST_BYTES))
    answer = await wire.line()
    if answer is not None:  # it may be lost with the reset that answers what was not read
        assert (answer["id"], answer["kind"]) == (None, "BadRequest")
        assert await wire.line() is None
    assert await served.answers()


async def test_longest_line_is_read(served: Served) -> None:
    wire = await served.greeted()
    line = b'{"id":1,"do":"status"}'
    await wire.send(line + b" " * (protocol.REQUEST_BYTES - len(line) - 1) + b"\n")
    assert await wire.line() == {"id": 1, "ok": {"state": "running"}}


async def test_thousands_of_bad_lines_leave_others_their_turn(served: Served) -> None:
    wire = await served.greeted()
    await wire.send(b"x\n" * 8000)
    assert await served.answers()
    for _ in range(8000):
        answer = await wire.line()
        assert answer is not None
        assert answer["kind"] == "BadRequest"


async def test_client_that_does_not_read_is_not_read_from_and_bounded(served: Served) -> None:
    wire = await served.greeted()
    request = b'{"id":1,"do":"stats"}\n' * 1000
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            wire.socket.send(request)
        await asyncio.sleep(0)
    (client,) = served.server._clients
    assert len(client._in) <= protocol.REQUEST_BYTES + server._READ_BYTES
    assert len(client._out) <= server.EVENTS_BYTES
    assert await served.answers()


async def test_subscriber_that_does_not_read_is_sent_away(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await served.greeted()
    assert await wire.ask(id=1, do="events") == {"id": 1, "ok": {}}
    for _ in range(5000):
        served.machine.publish("state", state="x" * 200)
    assert len(served.server._clients) == 0
    assert "does not read" in caplog.text
    assert await served.answers()


async def test_subscriber_hears_events_between_answers(served: Served) -> None:
    wire = await served.greeted()
    await wire.ask(id=1, do="events")
    served.machine.publish("plugged", slot=3)
    assert await wire.line() == {"event": "plugged", "detail": {"slot": 3}}
    assert await wire.ask(id=2, do="pause") == {"id": 2, "ok": {}}


async def test_thousands_of_connections_leave_room_for_one_more(served: Served) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(1500):
        with contextlib.suppress(BlockingIOError):  # the backlog is full
            served.wire()
        await asyncio.sleep(0)
        assert len(served.server._clients) <= server.CLIENTS
        if len(served.wires) > 200:
            served.wires.pop(0).close()
    assert await served.answers()
    for wire in served.wires:
        wire.close()
    for _ in range(50):
        await asyncio.sleep(0)
    assert await served.answers()
    assert len(os.listdir("/proc/self/fd")) <= before + server.CLIENTS  # noqa: PTH208


async def test_client_that_waits_for_an_answer_is_not_sent_away(served: Served) -> None:
    patient = await served.greeted()
    await patient.send(b'{"id":1,"do":"unplug","slot":1}\n')
    for _ in range(3 * server.CLIENTS):
        assert await served.answers()
        await served.greeted()
    served.machine.gate.set()
    assert await patient.line() == {"id": 1, "ok": {"empty": True}}


async def test_client_that_leaves_in_the_middle_is_forgotten(served: Served) -> None:
    for ending in (b"", b'{"id":1', b'{"id":1,"do":"unplug","slot":1}\n', b"\xff\n\xff"):
        wire = await served.greeted()
        await wire.send(ending)
        wire.close()
    served.machine.gate.set()
    async with asyncio.timeout(PATIENCE):
        while served.server._clients:
            await asyncio.sleep(0.01)
    assert await served.answers()


@pytest.mark.host("another user to become")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_gets_no_word_even_where_the_folder_lets_them_in(
    served: Served, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (served.claim.path, folder, *folder.parents):
        path.chmod(0o777)
    stranger = textwrap.dedent(f"""
        import os, socket
        os.chdir({str(folder)!r})
        os.setgid(65534), os.setuid(65534)
        s = socket.socket(socket.AF_UNIX)
        s.connect("served.sock")
        print(s.recv(100))
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", stranger, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert output.strip() == b"b''"
    assert "user 65534 was refused" in caplog.text


async def test_command_line_client_calls_and_is_refused(served: Served) -> None:
    def talk() -> tuple[Any, str, str]:
        with Client("served") as client:
            found = client.call("status")
            with pytest.raises(RefusedError) as refusal:
                client.call("resume")
            return found, str(refusal.value), refusal.value.kind

    found = await asyncio.to_thread(talk)
    assert found == ({"state": "running"}, "it is not paused", "Config")


async def test_command_line_client_refuses_another_version(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "VERSION", 2)
    with pytest.raises(ControlError, match="version 1 of the control protocol, this is 2"):
        await asyncio.to_thread(Client, "served")


async def test_server_that_closes_lets_a_waiting_request_end(served: Served) -> None:
    wire = await served.greeted()
    await wire.send(b'{"id":1,"do":"unplug","slot":1}\n')
    while not any(client.working for client in served.server._clients):
        await asyncio.sleep(0)
    served.machine.gate.set()
    await served.server.finish()
    served.server.close()
    assert await wire.line() == {"id": 1, "ok": {"empty": True}}
    assert await wire.line() is None
