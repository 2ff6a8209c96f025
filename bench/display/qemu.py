# SPDX-License-Identifier: MIT
"""QEMU's VNC server, showing a picture without a guest: its bochs-display is set up through qtest."""

from __future__ import annotations

import base64
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from pictures import HEIGHT, WIDTH

if TYPE_CHECKING:
    from pathlib import Path

_FRAMEBUFFER, _REGISTERS = 0xE000_0000, 0xF000_0000
_SLOT, _CHUNK = 4, 48 << 10
#: Registers of Bochs's display interface: resolution, depth, enable, and the virtual size.
_DISPI = {1: WIDTH, 2: HEIGHT, 3: 32, 4: 0x41, 6: WIDTH, 7: HEIGHT}


class Qemu:
    """A machine that does not run, and what it shows.

    Args:
        folder: for its sockets.
        port: of its VNC server: 5900 or more.
        picture: B, G, R, X.
    """

    def __init__(self, folder: Path, port: int, picture: bytes) -> None:
        path = str(folder / "qtest")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1)
        command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-S", "-nodefaults", "-vga", "none"]
        command += ["-device", f"bochs-display,vgamem=16M,addr={_SLOT}", "-qtest", f"unix:{path}"]
        command += ["-qtest-log", "none", "-vnc", f"127.0.0.1:{port - 5900},lossy=on"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._sock, _ = listening.accept()
        self._replies = self._sock.makefile("r")
        for register, value in ((0x10, _FRAMEBUFFER), (0x18, _REGISTERS), (4, 7)):
            self._ask(f"outl 0xcf8 {0x8000_0000 | _SLOT << 11 | register:#x}")
            self._ask(f"outl 0xcfc {value:#x}")
        for index, value in _DISPI.items():
            self._ask(f"writew {_REGISTERS + 0x500 + 2 * index:#x} {value:#x}")
        for at in range(0, len(picture), _CHUNK):
            data = picture[at : at + _CHUNK]
            self._ask(f"b64write {_FRAMEBUFFER + at:#x} {len(data):#x} {base64.b64encode(data).decode()}")
        time.sleep(1)

    def _ask(self, command: str) -> None:
        self._sock.sendall(command.encode() + b"\n")
        reply = self._replies.readline()
        assert reply.startswith("OK"), (command[:60], reply)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._replies.close()
        self._sock.close()
