# SPDX-License-Identifier: MIT
"""The control socket: names, the protocol, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdesktop_core.control import place, protocol, server
from vdesktop_core.control.client import Client, RefusedError
from vdesktop_core.control.place import Claim
from vdesktop_core.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PATIENCE = 60


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "vdesktop"


class FakeMachine:
    """What the server needs of a machine."""

    def __init__(self) -> None:
        self.paused = 0
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.gate = asyncio.Event()

    def subscribe(self, listener: Callable[[str, dict[str, Any]], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def publish(self, event: str, **detail: Any) -> None:
        for listener in [*self.listeners]:
            listener(event, detail)

    def status(self) -> dict[str, str]:
        return {"state": "running"}

    def counters(self) -> dict[str, dict[str, int]]:
        return {"vm": {f"counter{i}": i for i in range(2000)}}

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        raise ConfigError("it is not paused")

    def reset(self) -> None:
        raise RuntimeError("a bug")

    async def unplug(self, slot: int | str, *, timeout: float, force: bool) -> None:
        await self.gate.wait()


class Wire:
    """A client that sends what it likes."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        with contextlib.closing(place.Folder(create=False)) as folder:
            self.socket.connect(folder.address(name))
        self.loop = asyncio.get_running_loop()
        self.data = b""

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def line(self) -> dict[str, Any] | None:
        """The next line; None: the machine closed."""
        async with asyncio.timeout(PATIENCE):
            while b"\n" not in self.data:
                try:
                    data = await self.loop.sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self.data += data
        line, self.data = self.data.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, **fields: Any) -> dict[str, Any] | None:
        await self.send(json.dumps(fields).encode() + b"\n")
        return await self.line()

    def close(self) -> None:
        self.socket.close()


class Served:
    """A fake machine with a server."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.claim = Claim("served")
        self.server = server.Server(self.machine, self.claim.socket, self.claim.name)  # type: ignore[arg-type]
        self.wires: list[Wire] = []

    def wire(self) -> Wire:
        self.wires.append(Wire("served"))
        return self.wires[-1]

    async def greeted(self) -> Wire:
        wire = self.wire()
        assert await wire.line() == {
            "hello": "vdesktop",
            "version": 1,
            "machine": "served",
            "pid": os.getpid(),
        }
        return wire

    async def answers(self) -> bool:
        """Whether a new client is served."""
        wire = await self.greeted()
        answer = await wire.ask(id=7, do="status")
        wire.close()
        return answer == {"id": 7, "ok": {"state": "running"}}

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        if self.machine.listeners:
            self.server.close()
        self.claim.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    yield made
    made.close()


# Names


def test_claim_makes_a_socket_that_nobody_else_may_use(folder: Path) -> None:
    with contextlib.closing(Claim("one")) as claim:
        assert claim.path == folder / "one.sock"
        assert claim.path.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_second_machine_of_a_name_is_refused_in_one_line(folder: Path) -> None:
    with contextlib.closing(Claim("one")), pytest.raises(ControlError, match="'one' runs already") as refusal:
        Claim("one")
    assert "\n" not in str(refusal.value)


def test_machine_that_nobody_named_gets_a_number() -> None:
    with (
        contextlib.closing(Claim("vdesktop")),
        contextlib.closing(Claim("vdesktop", numbered=True)) as second,
    ):
        assert second.name == "vdesktop-2"
        assert place.names() == ["vdesktop", "vdesktop-2"]


def test_socket_of_a_killed_machine_is_replaced_and_not_listed(folder: Path) -> None:
    kill = (
        "import os; from vdesktop_core.control.place import Claim; c = Claim('one'); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", kill], check=False).returncode == -signal.SIGKILL
        assert (folder / "one.sock").exists()
        with contextlib.closing(Claim("one")):
            assert place.names() == ["one"]
    subprocess.run([sys.executable, "-c", kill], check=False)
    assert place.names() == []
    assert not (folder / "one.sock").exists()


def test_close_leaves_a_successors_socket_alone(folder: Path) -> None:
    first = Claim("one")
    (folder / "one.sock").unlink()
    with contextlib.closing(Claim("one")):
        first.close()
        assert place.names() == ["one"]


def test_long_runtime_path_has_a_socket_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with contextlib.closing(Claim("n" * 64)):
        assert place.names() == ["n" * 64]


def test_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with pytest.raises(ControlError, match="mode 755"):
        Claim("one")


def test_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="cannot open"):
        Claim("one")


def test_no_runtime_folder_lists_nothing_and_names_no_machine() -> None:
    assert place.names() == []
    with pytest.raises(ControlError, match=r"no machine named 'one' runs \(running: none\)"):
        Client("one")


# The protocol

DOCUMENTS = (
    b"",
    b"{}",
    b"null",
    b"[]",
    b'{"id":1}',
    b'{"do":"status"}',
    b'{"id":-1,"do":"status"}',
    b'{"id":9007199254740992,"do":"status"}',
    b'{"id":1.5,"do":"status"}',
    b'{"id":"1","do":"status"}',
    b'{"id":1,"do":"nonsense"}',
    b'{"id":1,"do":null}',
    b'{"id":1,"do":"status","more":1}',
    b'{"id":1,"do":"shutdown","timeout":0}',
    b'{"id":1,"do":"shutdown","timeout":-1}',
    b'{"id":1,"do":"shutdown","timeout":1e300}',
    b'{"id":1,"do":"shutdown","timeout":NaN}',
    b'{"id":1,"do":"unplug"}',
    b'{"id":1,"do":"unplug","slot":-1}',
    b'{"id":1,"do":"unplug","slot":256}',
    b'{"id":1,"do":"unplug","slot":[1]}',
    b'{"id":1,"do":"unplug","slot":"' + b"x" * 65 + b'"}',
    b'{"id":1,"do":"cpus","count":0}',
    b'{"id":1,"do":"cpus","count":99999999999999999999999}',
    b'{"id":1,"do":"plug","device":1}',
    b'{"id":1,"do":"plug","device":{"a":{"b":{"c":1}}}}',
    b'{"id":1,"do":"plug","device":{"a":[[1]]}}',
    b'{"id":1,"do":"plug","device":' + b"[" * 30000 + b"]" * 30000 + b"}",
    b'{"id":1,"do":"plug","device":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}",
    b"\xff\xfe{}",
    b'{"id":1,"do":"sta\xfftus"}',
    b'{"id":1,"do":"status"}{"id":2,"do":"status"}',
    b'{"id":1,"do":"status","do":"nonsense"}',
    b'{"id":1,"do":"\\u001b[2J\\n"}',
)


@pytest.mark.parametrize("line", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_line_that_is_no_request_is_refused_in_one_printable_line(line: bytes) -> None:
    with pytest.raises(protocol.BadRequestError) as refusal:
        protocol.parse_request(line)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


@given(st.binary(max_size=400))
@example(b'{"id":0,"do":"status"}')
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    with contextlib.suppress(protocol.BadRequestError):
        assert isinstance(protocol.parse_request(line), protocol.REQUESTS)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["id", "do", "slot", "device", "timeout", "force", "count"]) | st.text(max_size=9)
_WORDS = st.sampled_from([kind.__struct_config__.tag for kind in protocol.REQUESTS])


@given(st.dictionaries(_KEYS, _VALUES, max_size=7), _WORDS, st.integers(min_value=-1, max_value=1 << 60))
def test_any_object_is_a_request_or_refused(fields: dict[str, Any], word: str, number: int) -> None:
    line = json.dumps(fields | {"do": word, "id": number}).encode()
    with contextlib.suppress(protocol.BadRequestError):
        assert protocol.parse_request(line).id == number


def test_document_names_every_request_and_its_fields() -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    table = text[text.index("| `do` |") : text.index("## Events")]
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| `")}
    named = {word: row for words, row in rows.items() for word in words.replace("`", "").split(", ")}
    for kind in protocol.REQUESTS:
        word = str(kind.__struct_config__.tag)
        assert word in named
        for field in set(kind.__struct_fields__) - {"id"}:
            assert f"`{field}`" in named[word], (word, field)
    for number in (protocol.REQUEST_BYTES, server.CLIENTS, int(protocol.LONGEST_WAIT)):
        assert str(number) in text


# Clients


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
    assert await patient.line() == {"id": 1, "ok": {}}


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
    assert await wire.line() == {"id": 1, "ok": {}}
    assert await wire.line() is None
