# SPDX-License-Identifier: MIT
"""Copy, paste and drop between this host and a Debian desktop with its stock spice-vdagent."""

from __future__ import annotations

import os
import struct
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from browser import until
from desktop import PATIENCE, digest

from vdesktop_core.display.clipboard import HTML, PNG, TEXT, Copied
from vdesktop_core.display.files import DropFailure, FileDropError
from vdesktop_core.display.input import Key, PointerAbsolute
from vdesktop_core.display.keys import EVDEV_BY_CODE
from vdesktop_core.display.session import InputSession

if TYPE_CHECKING:
    from desktop import BootedDesktop

    from vdesktop_core.devices.agent.clipboard import AgentClipboard
    from vdesktop_core.display.clipboard import ClipboardOffer

WORDS = "Grüße aus der Zwischenablage: 你好 ♞\nzweite Zeile\n"
FILE_BYTES = 5_000_000


def png(width: int, height: int, seed: int) -> bytes:
    """A small picture, different for each seed."""
    rows = b"".join(b"\0" + bytes((x * seed + y) & 0xFF for x in range(width * 3)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def copy_in_guest(desktop: BootedDesktop, path: str, media: str) -> ClipboardOffer:
    """Have a program of the guest's own the clipboard; return what this host hears of it."""
    heard: list[ClipboardOffer | None] = []
    stop = desktop.do(lambda: desktop.clipboard.on_offer(heard.append))
    before = len(heard)
    desktop.run(desktop.as_user(f"xclip -i -selection clipboard -t {media} {path} >/dev/null 2>&1"))
    desktop.wait(lambda: any(heard[before:]), "an offer of the guest's")
    desktop.do(stop)
    offer = heard[-1]
    assert offer is not None
    return offer


def pasted(desktop: BootedDesktop, media: str, wanted: str) -> None:
    """Wait until what a program of the guest's pastes has a checksum: the offer takes its time."""
    paste = desktop.as_user(f"timeout 20 xclip -o -selection clipboard -t {media}")
    desktop.until(f"[ \"$({paste} | sha256sum)\" = '{wanted}  -' ]")


def test_desktop_has_a_window_manager_a_bar_and_a_terminal(desktop: BootedDesktop) -> None:
    desktop.until(f"{desktop.as_user('xdotool search --class xterm')} | grep -q .")
    assert desktop.picture()[:2] == (1024, 768)

    def painted() -> bool:
        _, _, rgb = desktop.picture()
        colours = {rgb[at : at + 3] for at in range(0, len(rgb), 3)}
        return b"\x20\x40\x60" in colours and len(colours) > 20

    until("the colours of windows and background", painted)


def test_text_copied_on_the_host_is_pasted_in_the_guest(desktop: BootedDesktop) -> None:
    desktop.do(lambda: desktop.clipboard.offer(Copied({HTML: b"<i>x</i>", TEXT: WORDS.encode()})))
    pasted(desktop, "UTF8_STRING", digest(WORDS.encode()))


def test_text_copied_in_the_guest_is_read_on_the_host(desktop: BootedDesktop) -> None:
    desktop.put("/tmp/words", WORDS.encode())
    offer = copy_in_guest(desktop, "/tmp/words", "UTF8_STRING")
    assert TEXT in offer.types
    assert desktop.call(offer.read(TEXT, 1 << 20)) == WORDS.encode()
    assert desktop.call(offer.read(TEXT, 3)) is None


def test_image_copied_on_the_host_is_pasted_in_the_guest(desktop: BootedDesktop) -> None:
    picture = png(64, 48, 7)
    desktop.do(lambda: desktop.clipboard.offer(Copied({PNG: picture})))
    pasted(desktop, "image/png", digest(picture))


def test_image_copied_in_the_guest_is_read_on_the_host(desktop: BootedDesktop) -> None:
    picture = png(40, 30, 11)
    desktop.put("/tmp/picture.png", picture)
    offer = copy_in_guest(desktop, "/tmp/picture.png", "image/png")
    assert PNG in offer.types
    assert desktop.call(offer.read(PNG, 1 << 20)) == picture


def test_text_is_pasted_after_its_viewer_left(desktop: BootedDesktop) -> None:
    class Leaving(Copied):
        left = False

        async def read(self, media_type: str, limit: int) -> bytes | None:
            return None if self.left else await super().read(media_type, limit)

    offer = Leaving({TEXT: b"left behind"})
    desktop.do(lambda: desktop.clipboard.offer(offer))
    desktop.do(lambda: None)
    offer.left = True
    pasted(desktop, "UTF8_STRING", digest(b"left behind"))


def test_file_dropped_on_the_desktop_arrives_whole(desktop: BootedDesktop) -> None:
    content = os.urandom(FILE_BYTES)
    progress: list[int] = []

    async def drop() -> None:
        transfer = await desktop.file_drop.start("../Bericht für alle.bin", len(content))
        for at in range(0, len(content), 100_000):
            await transfer.write(content[at : at + 100_000])
            progress.append(transfer.sent)
        await transfer.finish()

    desktop.call(drop(), timeout=5 * PATIENCE)
    assert progress[-1] == len(content)
    assert desktop.sha256("cat '/home/user/Downloads/Bericht für alle.bin'") == digest(content)


def test_file_cancelled_on_its_way_is_removed_in_the_guest(desktop: BootedDesktop) -> None:
    async def drop() -> None:
        transfer = await desktop.file_drop.start("half.bin", FILE_BYTES)
        await transfer.write(bytes(FILE_BYTES // 2))
        transfer.cancel()
        with pytest.raises(FileDropError) as ended:
            await transfer.write(b"x")
        assert ended.value.failure is DropFailure.CANCELLED

    desktop.call(drop(), timeout=5 * PATIENCE)
    desktop.until("[ ! -e /home/user/Downloads/half.bin ]")


def test_policy_off_lets_nothing_pass_in_either_direction(desktop: BootedDesktop) -> None:
    clipboard: AgentClipboard = desktop.clipboard  # type: ignore[assignment]
    heard: list[object] = []
    stop = desktop.do(lambda: clipboard.on_offer(heard.append))
    heard.clear()
    try:
        clipboard.to_guest = clipboard.to_host = False
        before = desktop.machine.counters()["agent0"]["port0_tx_bytes"]
        desktop.do(lambda: clipboard.offer(Copied({TEXT: b"secret"})))
        desktop.run("echo secret >/tmp/secret; chmod 644 /tmp/secret")
        desktop.run(desktop.as_user("xclip -i -selection clipboard /tmp/secret >/dev/null 2>&1"))
        # The guest's offer came, and went no further.
        desktop.wait(
            lambda: desktop.machine.counters()["agent0"]["port0_tx_bytes"] > before, "the guest's offer"
        )
        assert heard == []
        assert desktop.run(desktop.as_user("xclip -o -selection clipboard")) == "secret"
    finally:
        clipboard.to_guest = clipboard.to_host = True
        desktop.do(stop)


def test_keys_arrive_in_the_terminal_and_the_screen_follows_a_new_size(desktop: BootedDesktop) -> None:
    hands = InputSession(desktop.machine.desktop.inputs)
    desktop.until(f"{desktop.as_user('xdotool search --class xterm')} | grep -q .")
    desktop.run(desktop.as_user("xdotool search --class xterm windowactivate --sync"))
    codes = [*(f"Key{c}" for c in "TOUCH"), "Space", *(f"Key{c}" for c in "TYPED"), "Enter"]
    for code in codes:
        key = EVDEV_BY_CODE[code]
        # At once: a key that is down while a loaded host does something else is repeated by the guest.
        desktop.do(lambda key=key: hands.send(Key(key, down=True), Key(key, down=False)))
        time.sleep(0.02)
    desktop.until("[ -e /home/user/typed ]")
    desktop.do(lambda: hands.send(PointerAbsolute(8192, 16384)))
    # 1024 * 8192 / 32767 and 768 * 16384 / 32767
    desktop.until(f"{desktop.as_user('xdotool getmouselocation')} | grep -q 'x:25[56] y:38[34]'")
    desktop.do(lambda: desktop.machine.desktop.screens[0].scanouts[0].request_size(1280, 800))
    desktop.until(f"{desktop.as_user('xrandr')} | grep -q 'current 1280 x 800'")
    until("the new size", lambda: desktop.picture()[:2] == (1280, 800))
    desktop.do(lambda: desktop.machine.desktop.screens[0].scanouts[0].request_size(1024, 768))
    desktop.until(f"{desktop.as_user('xrandr')} | grep -q 'current 1024 x 768'")
