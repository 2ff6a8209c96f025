# SPDX-License-Identifier: MIT
"""The vnc front-end by itself: its options, whom it lets in, which keys clients mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_rfb.hands import Hands
from vdesktop_rfb.keys import EVDEV_BY_KEYSYM, EVDEV_BY_XT, evdev
from vdesktop_rfb.vnc import PORT, parse_options

from vdesktop_core.display.frontend import Desktop, open_display
from vdesktop_core.display.input import Key
from vdesktop_core.display.keys import EVDEV_BY_CODE
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.input import InputEvent


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("secret\nnot this\n")
    return path


def test_options_left_out_are_loopback_without_a_password() -> None:
    options = parse_options("")
    assert (options.address, options.port, options.rfb.password) == ("127.0.0.1", PORT, None)


def test_options_that_are_given_are_taken(password: Path) -> None:
    options = parse_options(f"0,listen=::,password={password},tls=a.pem:b.pem,clients=3")
    assert (options.address, options.port) == ("::", 0)
    assert (options.rfb.password, options.rfb.max_clients) == ("secret", 3)
    assert (options.rfb.certificate, options.rfb.key) == (Path("a.pem"), Path("b.pem"))


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("x", "no port"),
        ("70000", "no port"),
        ("-1", "no port"),
        (",listen=localhost", "numeric"),
        (",listen=0.0.0.0", "password"),
        (",listen=192.168.0.1", "password"),
        (",listen=::", "password"),
        (",tls=a", "two PEM files"),
        (",clients=0", "1 to 32"),
        (",clients=33", "1 to 32"),
        (",colour=red", "no option"),
        (",listen=127.0.0.1,listen=127.0.0.1", "given twice"),
        (",password=/nonexistent/file", "No such file"),
    ],
)
def test_options_without_sense_are_refused(argument: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        parse_options(argument)
    assert "\n" not in str(refused.value)


def test_address_of_others_is_refused_with_tls_and_no_password() -> None:
    with pytest.raises(ConfigError, match="password"):
        parse_options(",listen=0.0.0.0,tls=a:b")


@pytest.mark.parametrize("text", ["", "\n", "a\0b\n", "x" * 256])
def test_password_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "password").write_text(text)
    with pytest.raises(ConfigError, match="1 to 255"):
        parse_options(f",tls=a:b,password={tmp_path / 'password'}")


def test_password_of_which_a_part_would_not_count_is_refused(tmp_path: Path) -> None:
    long = "123456789"
    (tmp_path / "password").write_text(long)
    with pytest.raises(ConfigError, match="8 bytes"):
        parse_options(f",password={tmp_path / 'password'}")
    assert parse_options(f",tls=a:b,password={tmp_path / 'password'}").rfb.password == long


def test_front_end_with_options_and_no_port_is_found() -> None:
    class Front:
        name = "vnc"

        def open(self, argument: str, _: Desktop) -> str:
            return argument

    desktop = Desktop("m", [None], [])  # type: ignore[list-item]
    for spec, argument in (("vnc", ""), ("vnc:1", "1"), ("vnc,a=b:c", ",a=b:c"), ("vnc:1,a=b", "1,a=b")):
        assert open_display(spec, {"vnc": Front()}, desktop) == argument  # type: ignore[dict-item]


# Scancodes of QEMU's extended key event, from its own table of keys.
@pytest.mark.parametrize(
    ("scancode", "code"),
    [
        (0x1E, "KeyA"),
        (0x56, "IntlBackslash"),
        (0x73, "IntlRo"),
        (0x7D, "IntlYen"),
        (0x9C, "NumpadEnter"),
        (0x9D, "ControlRight"),
        (0xB5, "NumpadDivide"),
        (0xB7, "PrintScreen"),
        (0xB8, "AltRight"),
        (0xC6, "Pause"),
        (0xC8, "ArrowUp"),
        (0xD3, "Delete"),
        (0xDB, "MetaLeft"),
        (0xDD, "ContextMenu"),
        (0x58, "F12"),
    ],
)
def test_key_of_a_scancode_is_the_one_at_that_place(scancode: int, code: str) -> None:
    assert evdev(scancode, 0) == EVDEV_BY_CODE[code]


def test_keys_of_all_tables_are_keys() -> None:
    for table in (EVDEV_BY_XT, EVDEV_BY_KEYSYM):
        assert all(0 < code < 256 for code in table.values())
    assert evdev(0, 0x1000000) is None
    assert evdev(0xFF, ord("a")) is None


def test_keys_of_every_printable_letter_are_known() -> None:
    assert all(chr(letter) and letter in EVDEV_BY_KEYSYM for letter in range(0x20, 0x7F))


def test_hands_lend_shift_once_for_letters_that_overlap() -> None:
    class Keyboard:
        accepts = frozenset({Key})

        def __init__(self) -> None:
            self.keys: list[InputEvent] = []

        def send(self, events: Sequence[InputEvent]) -> bool:
            self.keys += events
            return True

    keyboard = Keyboard()
    hands = Hands([keyboard])  # type: ignore[list-item]
    for down, letter in ((True, "A"), (True, "B"), (False, "A"), (False, "B")):
        hands.key(down=down, keysym=ord(letter), scancode=0)
    assert keyboard.keys == [
        Key(42, down=True),
        Key(30, down=True),
        Key(48, down=True),
        Key(30, down=False),
        Key(48, down=False),
        Key(42, down=False),
    ]
