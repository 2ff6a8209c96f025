# SPDX-License-Identifier: MIT
"""Debian's Chromium on a machine's web display, as a person uses it."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guest import Guest
    from playwright.sync_api import Browser, Page

#: Far more than it takes: no test is about time.
PATIENCE = 120.0
_SHIFTED = '~!@#$%^&*()_+{}|:"<>?'
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window; skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS])
        try:
            yield browser
        finally:
            browser.close()


def until(what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until a condition holds, and return what it gives."""
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {patience:g} s")
        time.sleep(0.2)
    return found


def address(guest: Guest) -> str:
    """Return where a guest's desktop is: what ``vdesktop run`` printed."""
    line = re.compile(r"the desktop is at (http://\S+)")
    return str(until("the address", lambda: line.search(guest.terminal.error_text()))[1])


class Desk:
    """A page that shows a machine."""

    def __init__(self, browser: Browser, url: str, width: int = 1024, height: int = 768) -> None:
        self.errors: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": height}, has_touch=True)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.connected()
        self._cdp = context.new_cdp_session(self.page)

    def connected(self) -> None:
        """Wait until the page shows the machine."""
        self.page.wait_for_selector("body[data-connected]", timeout=PATIENCE * 1000)

    def size(self) -> tuple[int, int]:
        """The picture's, in the machine's pixels."""
        width, height = self.page.evaluate(
            "(() => { const c = document.querySelector('#screen canvas'); return [c.width, c.height]; })()"
        )
        return width, height

    def colours(self) -> int:
        """How many colours the picture has."""
        return int(
            self.page.evaluate(
                "(() => { const c = document.querySelector('#screen canvas');"
                " const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
                " return new Set(new Uint32Array(data.buffer)).size; })()"
            )
        )

    def type(self, text: str) -> None:
        """Type on the machine's keyboard, as on one with US letters: keys go there by their places."""
        self.page.focus("#screen canvas")
        for letter in text:
            shift = "Shift+" if letter.isupper() or letter in _SHIFTED else ""
            self.page.keyboard.press(shift + {"\n": "Enter", " ": "Space"}.get(letter, letter), delay=15)

    def press(self, keys: str) -> None:
        """Press keys at once, such as ``Control+C``."""
        self.page.focus("#screen canvas")
        self.page.keyboard.press(keys, delay=15)

    def fingers(self, kind: str, *points: tuple[int, int]) -> None:
        """Have fingers at points of the page: ``touchStart``, ``touchMove``, ``touchEnd``."""
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file on the picture."""
        self.page.evaluate(
            """([name, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], name));
                for (const type of ['dragenter', 'dragover', 'drop']) {
                    document.getElementById('screen').dispatchEvent(
                        new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
                }
            }""",
            [name, list(content)],
        )

    def close(self) -> None:
        """Leave; what went wrong in the page fails the test."""
        self.page.context.close()
        assert self.errors == []
