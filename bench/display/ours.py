# SPDX-License-Identifier: MIT
"""Our server, showing a picture without a guest: ``ours.py FILE``. Prints its port; ends with its input.

``ours.py --latency FILE`` measures itself instead: from a client's socket to the input device.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictures import HEIGHT, WIDTH
from vdesktop_rfb.server import RfbOptions
from vdesktop_rfb.vnc import VncDisplay, VncOptions

from vdesktop_core._native import ffi, lib
from vdesktop_core.display.frontend import Desktop
from vdesktop_core.display.input import Key
from vdesktop_core.display.native import NativeScanout
from vdesktop_core.display.screen import PixelFormat
from vdesktop_core.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vdesktop_core.display.input import InputEvent, Led

HERE = Path(__file__).parent
EVENTS = 500


class Screen:
    """A screen that shows a picture."""

    def __init__(self, host: Host, picture: bytes) -> None:
        native = ffi.cast("struct vd_host *", host.native)
        self.native = lib.vd_scanout_new(native)
        failure = ffi.new("int *")
        pixels = lib.vd_pixels_new(native, len(picture), failure)
        ffi.buffer(lib.vd_pixels_base(pixels), len(picture))[:] = picture
        surface = {
            "pixels": pixels,
            "width": WIDTH,
            "height": HEIGHT,
            "stride": WIDTH * 4,
            "format": int(PixelFormat.XRGB8888),
        }
        lib.vd_scanout_show(self.native, ffi.new("struct vd_surface *", surface))
        lib.vd_pixels_unref(pixels)
        self.scanouts = [NativeScanout(self.native, lambda *_: None)]


class Keyboard:
    """Notes when keys arrive."""

    accepts = frozenset({Key})

    def __init__(self) -> None:
        self.times: list[float] = []

    def send(self, _: Sequence[InputEvent]) -> bool:
        self.times.append(time.perf_counter())
        return True

    def on_leds(self, _: Callable[[Led], None]) -> Callable[[], None]:
        return lambda: None


def client(port: int, what: str) -> subprocess.Popen[str]:
    """A client, in a process of its own: it shall not wait for this one's interpreter."""
    command = [sys.executable, HERE / "client.py", str(port), what, str(EVENTS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure(port: int, keyboard: Keyboard, done: Callable[[], None]) -> None:
    """Hit keys, with more and more going on besides."""

    def report(what: str, hitting: subprocess.Popen[str]) -> None:
        said, _ = hitting.communicate()
        hit = [float(word) for word in said.split()]
        while len(keyboard.times) < EVENTS:
            time.sleep(0.01)
        taken = [there - here for here, there in zip(hit, keyboard.times, strict=True)]
        keyboard.times.clear()
        late = statistics.quantiles(taken, n=100)[98]
        print(f"| {what} | {1e6 * statistics.median(taken):.0f} | {1e6 * late:.0f} |", flush=True)

    report("nothing else", client(port, "keys"))
    looking = client(port, "look")
    report("while another client sees photographs", client(port, "keys"))
    looking.kill()
    looking.communicate()
    report("while it sees photographs itself", client(port, "both"))
    done()


async def main(arguments: Sequence[str]) -> None:
    latency = arguments[0] == "--latency"
    picture = Path(arguments[-1]).read_bytes()
    host = Host()
    screen: Any = Screen(host, picture)
    keyboard = Keyboard()
    display = VncDisplay(VncOptions(port=0, rfb=RfbOptions()), Desktop("bench", [screen], [keyboard]))
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def done() -> None:
        loop.call_soon_threadsafe(over.set)

    if latency:
        threading.Thread(target=measure, args=(display.port, keyboard, done)).start()
    else:
        print(display.port, flush=True)
        loop.add_reader(sys.stdin, over.set)
    await over.wait()
    display.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
