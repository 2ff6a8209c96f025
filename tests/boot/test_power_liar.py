# SPDX-License-Identifier: MIT
"""The Linux driver of virtio-power, and a device that lies about what it wrote."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.requests import Requests
from vdesktop_core.machine import Machine, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from guest import Image

#: Far more than it takes: no test is about time.
PATIENCE = 200
FOLDER = "/sys/bus/virtio/drivers/virtio_power/virtio*"
READ = f"for f in {FOLDER}/machine/* {FOLDER}/*/*/*; do cat $f; done >/tmp/said 2>&1"
HEADER, LIST = wire.REPLY_HEADER, wire.LIST


def with_header(**fields: int) -> Callable[[bytes], bytes]:
    def lie(reply: bytes) -> bytes:
        return HEADER.pack(**HEADER.unpack(reply) | fields) + reply[HEADER.size :]

    return lie


def with_list(**fields: int) -> Callable[[bytes], bytes]:
    """Of a list's header; what is no list becomes something else, too."""

    def lie(reply: bytes) -> bytes:
        payload = reply[HEADER.size :].ljust(LIST.size, b"\xff")
        payload = LIST.pack(**LIST.unpack(payload) | fields) + payload[LIST.size :]
        return HEADER.pack(**HEADER.unpack(reply) | {"size": HEADER.size + len(payload)}) + payload

    return lie


#: What a reply becomes: sizes beyond what was written, or below a header; lists of other sizes than what
#: follows; entries of no size, or a huge one; nothing; words of no meaning, and names without an end.
LIES: tuple[Callable[[bytes], bytes], ...] = (
    with_header(size=0xFFFF_FFFF),
    with_header(size=4097),
    with_header(size=HEADER.size - 1),
    with_header(size=0),
    with_header(status=0xFFFF),
    with_list(total=0xFFFF_FFFF),
    with_list(count=0xFFFF_FFFF),
    with_list(count=0),
    with_list(first=7),
    with_list(entry_size=0),
    with_list(entry_size=0xFFFF_FFFF),
    lambda reply: reply[: HEADER.size - 1],
    lambda reply: reply[: HEADER.size + 3],
    lambda reply: reply[: HEADER.size + LIST.size],
    lambda reply: reply[: HEADER.size + LIST.size] + b"A" * len(reply[HEADER.size + LIST.size :]),
    lambda _reply: b"",
)


class Liar:
    """In the place of ``Requests._reply``: lies from one moment to another, each time in another way."""

    def __init__(self) -> None:
        self.lying = False
        self.lies = 0

    def reply(self, requests: Any, queue: Any, chain: Any, status: wire.Status, payload: bytes = b"") -> None:
        _, generation, _ = requests._device.snapshot()
        reply = wire.reply(status, generation, payload)
        if not self.lying:
            queue.complete(chain, chain.write(reply))
            return
        self.lies += 1
        written = chain.write(LIES[self.lies % len(LIES)](reply))
        # And more than there is room for, now and then.
        queue.complete(chain, written if self.lies % 7 else 1 << 20)


class Shell:
    """The guest's shell, on a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._text = ""

    async def sees(self, pattern: str) -> re.Match[str]:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(pattern, self._text, re.DOTALL)):
                self._text += (await self._reader.read(65536)).decode(errors="replace").replace("\r", "")
        self._text = self._text[found.end() :]
        return found

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def run(self, command: str) -> str:
        """Return what a command says."""
        self._writer.write(f'echo "<<"; {command}; echo "<<"done">>"\n'.encode())
        return (await self.sees(r"\n<<\n(.*?)<<done>>"))[1]


async def test_power_driver_does_not_believe_a_device_that_lies(
    arch_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = Liar()
    monkeypatch.setattr(
        Requests, "_reply", lambda self, *args, **more: liar.reply(self, *args, **more), raising=True
    )
    console = tmp_path / "console"
    config = MachineConfig(
        name="liar",
        arch=arch_image.arch,
        boot=BootConfig(
            kernel=str(arch_image.folder / "kernel"),
            initrd=str(arch_image.folder / "initrd"),
            append="quiet console=hvc0",
        ),
        devices=({"type": "console", "ports": [{"backend": f"socket:{console}"}]}, {"type": "rng"}),
    )
    async with Machine(config) as machine:
        await machine.start()
        shell = Shell(*await asyncio.open_unix_connection(console))
        await shell.sees("vdesktop-guest: ready")
        assert "liar" in await shell.run(f"cat {FOLDER}/machine/name")
        liar.lying = True
        for _ in range(3):
            await shell.run(READ)
            longest = await shell.run(
                "awk '{ if (length($0) > n) n = length($0) } END { print n }' /tmp/said"
            )
            assert int(longest) < 200
        assert liar.lies > 3 * 100
        for _ in range(len(LIES)):  # it does not start on a lie, or does without what it did not get
            await shell.run("rmmod virtio_power; modprobe virtio_power 2>/dev/null; true")
        liar.lying = False
        await shell.run("rmmod virtio_power; modprobe virtio_power")
        assert "liar" in await shell.run(f"cat {FOLDER}/machine/name")
        assert await shell.run("dmesg | grep -E 'BUG|Oops|WARNING: CPU|KASAN|usercopy'") == ""
        assert (await machine.shutdown(timeout=PATIENCE)).outcome is Outcome.SHUTDOWN
        await shell.close()
