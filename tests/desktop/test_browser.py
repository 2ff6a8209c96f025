# SPDX-License-Identifier: MIT
"""A person with Debian's Chromium at the desktop: points, types, pinches, copies, pastes, drops, resizes."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from browser import Desk, chromium, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from desktop import BootedDesktop
    from playwright.sync_api import Browser

#: Of the window manager's background and menu, in the guest's own settings (guestbuild/desktop/skel/jwmrc).
BACKGROUND, MENU = (0x20, 0x40, 0x60), (0xF0, 0xF0, 0xF0)
#: Where no window is when the desktop has just started.
FREE = (760, 560)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def desk(desktop: BootedDesktop, browser: Browser) -> Iterator[Desk]:
    opened = Desk(browser, desktop.address)
    opened.page.click("#fit")  # the screen's size stays, but where a test is about it
    until("the desktop", lambda: opened.size() == (1024, 768) and colour(opened, *FREE) == BACKGROUND)
    yield opened
    opened.close()


def colour(desk: Desk, x: int, y: int) -> tuple[int, int, int]:
    red, green, blue, _ = desk.page.evaluate(
        "([x, y]) => [...document.querySelector('#screen canvas')"
        ".getContext('2d').getImageData(x, y, 1, 1).data]",
        [x, y],
    )
    return red, green, blue


def png(width: int, height: int) -> bytes:
    """A picture that no other program has made."""
    rows = b"".join(b"\0" + os.urandom(width * 3) for _ in range(height))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_browser_shows_the_desktop(desktop: BootedDesktop, desk: Desk, tmp_path: Path) -> None:
    until("the terminal", lambda: desk.colours() > 20)
    desk.page.screenshot(path=tmp_path / "desktop.png")
    width, height, rgb = desktop.picture()
    assert (width, height) == desk.size()
    x, y = FREE
    assert tuple(rgb[(y * width + x) * 3 :][:3]) == BACKGROUND


def test_click_opens_the_menu_at_the_pointer(desk: Desk) -> None:
    x, y = FREE
    # Right at the pointer's lower right; between them are letters.
    inside = [(x + dx, y + dy) for dx in (2, 40) for dy in (3, 20)]
    desk.page.mouse.click(x, y)
    until("the menu", lambda: MENU in [colour(desk, *at) for at in inside])
    assert colour(desk, x - 4, y - 4) == BACKGROUND
    desk.press("Escape")
    until("its end", lambda: {colour(desk, *at) for at in inside} == {BACKGROUND})


def test_text_typed_in_the_page_arrives_in_the_terminal(desktop: BootedDesktop, desk: Desk) -> None:
    # A key that is down while a loaded host does something else would be repeated.
    desktop.run(f"rm -f /tmp/typed; {desktop.as_user('xset r off')}")
    desk.page.mouse.click(200, 200)
    desk.type("echo Typed-in_a.PAGE >/tmp/typed\n")
    desktop.until("grep -qx Typed-in_a.PAGE /tmp/typed")


def test_pinch_is_seen_by_evtest(desktop: BootedDesktop, desk: Desk) -> None:
    number = desktop.run("grep -l touch /sys/class/input/event*/device/name").split("/")[4]
    desktop.run(f"evtest /dev/input/{number} >/tmp/touches 2>&1 & sleep 1")
    until("the touch screen", lambda: not desk.page.get_attribute("#fingers", "hidden"))
    desk.fingers("touchStart", (400, 300), (600, 300))
    for step in range(1, 5):
        desk.fingers("touchMove", (400 - 20 * step, 300), (600 + 20 * step, 300))
    desk.fingers("touchEnd")
    desktop.until("[ $(grep -c 'ABS_MT_TRACKING_ID), value -1' /tmp/touches) = 2 ]")
    seen = desktop.run("cat /tmp/touches; pkill evtest")
    assert "(ABS_MT_SLOT), value 1" in seen
    across = [int(x) for x in re.findall(r"ABS_MT_POSITION_X\), value (\d+)", seen)]
    assert abs(min(across) * 1024 / 32767 - 320) <= 1
    assert abs(max(across) * 1024 / 32767 - 680) <= 1


def test_text_copied_in_the_guest_is_pasted_in_the_page(desktop: BootedDesktop, desk: Desk) -> None:
    text = "kopiert: äöü €"
    desktop.put("/tmp/copied", text.encode())
    desktop.run(desktop.as_user("xclip -selection clipboard -i /tmp/copied"))
    until("the text", lambda: desk.page.evaluate("navigator.clipboard.readText()") == text)
    assert desk.page.input_value("#clip-text") == text


def test_text_copied_in_the_browser_is_pasted_in_the_guest(desktop: BootedDesktop, desk: Desk) -> None:
    text = "from the page: ☃"
    desk.page.evaluate("text => navigator.clipboard.writeText(text)", text)
    desk.page.evaluate("window.dispatchEvent(new Event('focus'))")
    wanted = hashlib.sha256(text.encode()).hexdigest()
    paste = desktop.as_user("timeout 10 xclip -selection clipboard -o")
    desktop.until(f"{paste} | sha256sum | grep -q {wanted}")


def test_picture_copied_in_the_guest_is_pasted_in_the_page(desktop: BootedDesktop, desk: Desk) -> None:
    desktop.put("/tmp/copied.png", png(31, 17))
    desktop.run(desktop.as_user("xclip -selection clipboard -t image/png -i /tmp/copied.png"))
    size = """async () => {
        for (const item of await navigator.clipboard.read()) {
            if (!item.types.includes('image/png')) continue;
            const picture = await createImageBitmap(await item.getType('image/png'));
            return [picture.width, picture.height];
        }
        return null;
    }"""
    until("the picture", lambda: desk.page.evaluate(size) == [31, 17])


def test_dropped_file_arrives_whole(desktop: BootedDesktop, desk: Desk) -> None:
    content = os.urandom(300_000)
    desk.drop("dropped here.bin", content)
    until("its end", lambda: desk.page.query_selector("#transfers [data-state=done]"))
    path = desktop.run("find /home/user -name 'dropped here.bin'")
    assert desktop.sha256(f"cat '{path}'") == hashlib.sha256(content).hexdigest()
    desktop.run(f"rm '{path}'")


def test_guest_follows_the_window(desktop: BootedDesktop, desk: Desk) -> None:
    desk.page.click("#fit")
    desk.page.set_viewport_size({"width": 1160, "height": 820})
    until("the size", lambda: desk.size() == (1160, 820))
    assert "current 1160 x 820" in desktop.run(desktop.as_user("xrandr"))
    desk.page.set_viewport_size({"width": 1024, "height": 768})
    until("the size", lambda: desk.size() == (1024, 768))
