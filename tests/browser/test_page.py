# SPDX-License-Identifier: MIT
"""The page at a minimal guest's console: picture, keys, pointer, fingers, a machine that comes back."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from browser import Desk, address, until
from guest import Guest, find_image, free_port, running
from listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

ABSOLUTE_MAX = 32767
TOKEN = "a-token-of-these-tests"  # noqa: S105
EV_KEY, EV_ABS = 1, 3
KEY_Q, BTN_LEFT = 16, 0x110
ABS_X, ABS_Y, ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_TRACKING_ID = 0, 1, 0x2F, 0x35, 0x39


def options(port: int, token: Path) -> tuple[str, ...]:
    return (
        "--display",
        f"web:{port},token-file={token}",
        "--append",
        "console=tty0 console=hvc0 vt.handoff=1",
        "--net",
        "none",
    )


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "token").write_text(TOKEN)
    with running(find_image("aarch64", "trixie"), folder, *options(0, folder / "token")) as booted:
        yield booted


@pytest.fixture
def desk(guest: Guest, browser: Browser) -> Iterator[Desk]:
    opened = Desk(browser, address(guest))
    yield opened
    opened.close()


@pytest.fixture
def keyboard(guest: Guest) -> Iterator[Listener]:
    listener = Listener(guest, "keyboard")
    yield listener
    listener.close()


@pytest.fixture
def tablet(guest: Guest) -> Iterator[Listener]:
    listener = Listener(guest, "tablet")
    yield listener
    listener.close()


@pytest.fixture
def touch_screen(guest: Guest) -> Iterator[Listener]:
    listener = Listener(guest, "touch")
    yield listener
    listener.close()


def test_page_shows_the_console_and_how_fast(guest: Guest, desk: Desk) -> None:
    guest.run("printf '\\033[2J\\033[1;37;41m red \\033[42m green \\033[0m' >/dev/tty1")
    until("colours", lambda: desk.colours() >= 4)
    until("the status", lambda: "frames/s" in desk.page.inner_text("#status"))
    assert desk.page.title() == desk.page.inner_text("#name")


def test_key_goes_to_the_guest_by_its_place(desk: Desk, keyboard: Listener) -> None:
    # A French keyboard: the key right of Tab has an A on it, and is evdev's KEY_Q.
    desk.page.focus("#screen canvas")
    desk.page.evaluate(
        """() => { for (const type of ['keydown', 'keyup'])
            document.querySelector('#screen canvas').dispatchEvent(
                new KeyboardEvent(type, { key: 'a', code: 'KeyQ', bubbles: true, cancelable: true })); }"""
    )
    until("the key", lambda: {(EV_KEY, KEY_Q, 1), (EV_KEY, KEY_Q, 0)} <= {*keyboard.events()})


def test_key_that_the_browser_keeps_is_in_the_menu(desk: Desk, keyboard: Listener) -> None:
    desk.page.evaluate("document.getElementById('bar').classList.add('open')")
    desk.page.click("#keys summary")
    desk.page.click("text=Alt+Tab")
    wanted = {(EV_KEY, code, value) for code in (56, 15) for value in (0, 1)}
    until("the keys", lambda: wanted <= {*keyboard.events()})


def test_pointer_is_where_the_person_points(desk: Desk, tablet: Listener) -> None:
    width, height = desk.size()
    desk.page.mouse.move(200, 300)
    desk.page.mouse.click(640, 480)
    until("the button", lambda: (EV_KEY, BTN_LEFT, 0) in tablet.events())
    events = tablet.events()
    down = events.index((EV_KEY, BTN_LEFT, 1))
    before = {(kind, code): value for kind, code, value in events[:down]}
    assert abs(before[EV_ABS, ABS_X] * width / ABSOLUTE_MAX - 640) <= 1
    assert abs(before[EV_ABS, ABS_Y] * height / ABSOLUTE_MAX - 480) <= 1


def test_viewer_that_leaves_in_a_drag_lifts_its_button(
    guest: Guest, browser: Browser, tablet: Listener
) -> None:
    leaving = Desk(browser, address(guest))
    leaving.page.mouse.move(100, 100)
    leaving.page.mouse.down()
    until("the button", lambda: (EV_KEY, BTN_LEFT, 1) in tablet.events())
    leaving.close()
    until("its end", lambda: (EV_KEY, BTN_LEFT, 0) in tablet.events())


def test_pinch_is_two_fingers_on_the_touch_screen(desk: Desk, touch_screen: Listener) -> None:
    desk.page.wait_for_selector("#fingers", state="attached")
    until("the touch screen", lambda: not desk.page.get_attribute("#fingers", "hidden"))
    desk.fingers("touchStart", (400, 300), (600, 300))
    for step in range(1, 5):
        desk.fingers("touchMove", (400 - 20 * step, 300), (600 + 20 * step, 300))
    desk.fingers("touchEnd")
    until(
        "two fingers' end",
        lambda: touch_screen.events().count((EV_ABS, ABS_MT_TRACKING_ID, -1)) == 2,
    )
    events = touch_screen.events()
    assert {(EV_ABS, ABS_MT_SLOT, 1)} <= {*events}
    across = [value for kind, code, value in events if (kind, code) == (EV_ABS, ABS_MT_POSITION_X)]
    width, _ = desk.size()
    assert abs(min(across) * width / ABSOLUTE_MAX - 320) <= 1
    assert abs(max(across) * width / ABSOLUTE_MAX - 680) <= 1


def test_page_and_files_without_the_token_are_not_there(guest: Guest) -> None:
    root = address(guest).removesuffix(f"{TOKEN}/")
    for path in ("", "app.js", f"{TOKEN[:-1]}/", f"{TOKEN}/../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(root + path, timeout=60)  # noqa: S310 - our own
        assert caught.value.code == 404
        caught.value.close()


def test_machine_that_comes_back_is_shown_again(tmp_path: Path, browser: Browser) -> None:
    port = free_port()
    (tmp_path / "token").write_text(TOKEN)
    image = find_image("aarch64", "trixie")
    first = Guest(image, tmp_path, options(port, tmp_path / "token"))
    try:
        desk = Desk(browser, address(first))
    finally:
        first.terminal.close()
    until("the notice", lambda: "Connecting again" in desk.page.inner_text("#notice"))
    second = Guest(image, tmp_path, options(port, tmp_path / "token"))
    try:
        desk.connected()
        desk.close()
    finally:
        second.terminal.close()


def test_page_stays_from_the_boot_framebuffer_to_the_drivers_picture_and_back_after_a_reset(
    tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    small = (640, 400)  # the boot framebuffer's; the driver's picture is as large as the page
    image = find_image("aarch64", "trixie")
    guest = Guest(image, tmp_path, (*options(0, tmp_path / "token"), "--framebuffer", "640x400"))
    try:
        desk = Desk(browser, address(guest))
        desk.page.evaluate(
            """() => { window.left = 0; new MutationObserver(() => { window.left += 1; })
                .observe(document.body, { attributes: true, attributeFilter: ['data-connected'] }); }"""
        )
        until("the boot framebuffer", lambda: desk.size() == small)
        guest.boot()
        until("the driver's picture", lambda: desk.size() not in (small, (0, 0)))
        guest.terminal.send(b"reboot -f\n")
        until("the boot framebuffer again", lambda: desk.size() == small)
        until("the driver's picture again", lambda: desk.size() not in (small, (0, 0)))
        assert desk.page.evaluate("window.left") == 0
        desk.close()
    finally:
        guest.terminal.close()
