# SPDX-License-Identifier: MIT
"""RFB: logins, input, sizes, fences, lamps, WebSocket frames, messages of our own."""

from __future__ import annotations

import os
import ssl
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from rfb_client import (
    CONTINUOUS,
    EXTENDED_SIZE,
    FENCE,
    MOUSE,
    QEMU_KEY,
    QEMU_LED,
    RAW,
    VDESKTOP,
    RfbClient,
)
from rfb_rig import Rig

from vdesktop_core.display.input import (
    Button,
    Key,
    Led,
    PointerAbsolute,
    PointerButton,
    Touch,
    TouchPhase,
    Wheel,
)
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET, LONG = "secret", "long enough for plain"


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    """Makes servers, each with a screen of 32 x 16."""
    made: list[Rig] = []

    def new(**options: Any) -> Rig:
        made.append(Rig(**options))
        made[-1].canvas.show(32, 16)
        return made[-1]

    yield new
    for rig in made:
        rig.close()


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    return rigs()


@pytest.fixture
def client(rig: Rig) -> Iterator[RfbClient]:
    """A client that has logged in."""
    client = RfbClient(rig.connect())
    client.login()
    yield client
    client.sock.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def des(password: str, challenge: bytes) -> bytes:
    """What a client answers, by another implementation of DES."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    command = ["openssl", "enc", "-des-ecb", "-provider", "legacy", "-provider", "default", "-nopad", "-e"]
    done = subprocess.run([*command, "-K", key.hex()], input=challenge, capture_output=True, check=True)
    return done.stdout


def to_challenge(client: RfbClient, minor: int = 8) -> bytes:
    client.read(12)
    client.send(b"RFB 003.%03d\n" % minor)
    if minor == 3:
        assert client.number(4) == 2
    else:
        assert client.read(2) == b"\x01\x02"
        client.send(b"\x02")
    return client.read(16)


# Logins


@pytest.mark.parametrize("minor", [3, 7, 8, 889])
def test_login_of_every_version_shows_the_desktop(rig: Rig, minor: int) -> None:
    client = RfbClient(rig.connect())
    client.login(minor)
    assert (client.width, client.height, client.name) == (32, 16, "test")
    client.sock.close()


@pytest.mark.parametrize("minor", [3, 7, 8])
@pytest.mark.parametrize("password", ["secret", "exactly8", "a"])
def test_password_that_is_right_opens(rigs: Callable[..., Rig], minor: int, password: str) -> None:
    client = RfbClient(rigs(password=password).connect())
    client.send(des(password, to_challenge(client, minor)))
    assert client.number(4) == 0
    client.start()
    client.sock.close()


@pytest.mark.parametrize("minor", [3, 7, 8])
def test_password_that_is_wrong_is_refused(rigs: Callable[..., Rig], minor: int) -> None:
    rig = rigs(password=SECRET)
    client = RfbClient(rig.connect())
    client.send(des("Secret", to_challenge(client, minor)))
    assert client.number(4) == 1
    if minor == 8:
        assert client.read(client.number(4)) == b"the password is wrong"
    assert client.closed()


def test_passwords_guessed_in_a_row_close_the_door(rigs: Callable[..., Rig]) -> None:
    rig = rigs(password=SECRET)
    waiting = RfbClient(rig.connect())
    challenge = to_challenge(waiting)
    for _ in range(5):
        client = RfbClient(rig.connect())
        to_challenge(client)
        client.send(bytes(16))
        assert client.number(4) == 1
        assert client.closed()
    with pytest.raises(DeviceError, match="wrong passwords"):
        rig.connect()
    waiting.send(des(SECRET, challenge))  # right, and does not learn it
    assert waiting.number(4) == 1
    assert b"too many" in waiting.read(waiting.number(4))
    trusted = RfbClient(rig.connect(trusted=True))
    trusted.login()
    trusted.sock.close()


def test_trusted_client_needs_no_password(rigs: Callable[..., Rig]) -> None:
    client = RfbClient(rigs(password=SECRET).connect(trusted=True))
    client.login()
    client.sock.close()


def vencrypt(client: RfbClient, kind: int) -> list[int]:
    assert client.read(12) == b"RFB 003.008\n"
    client.send(b"RFB 003.008\n")
    assert client.read(2) == b"\x01\x13"
    client.send(b"\x13")
    assert client.read(2) == b"\0\2"
    client.send(b"\0\2")
    assert client.read(1) == b"\0"
    offered = [client.number(4) for _ in range(client.read(1)[0])]
    client.send(struct.pack(">I", kind))
    return offered


def secured(client: RfbClient, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    client.sock = context.wrap_socket(client.sock)


@pytest.mark.parametrize("kind", [262, 261])
def test_tls_with_a_password_shows_the_desktop(
    rigs: Callable[..., Rig], certificate: tuple[Path, Path], kind: int
) -> None:
    rig = rigs(password=LONG, certificate=certificate[0], key=certificate[1])
    client = RfbClient(rig.connect())
    assert vencrypt(client, kind) == [262, 261]
    assert client.read(1) == b"\1"
    secured(client, certificate[0])
    if kind == 262:
        password = LONG.encode()
        client.send(struct.pack(">II", 4, len(password)) + b"name" + password)
    else:
        client.send(des(LONG, client.read(16)))
    assert client.number(4) == 0
    client.start()
    rig.canvas.paint(os.urandom(32 * 16 * 4))
    assert client.picture(RAW)[3][4] == tuple(rig.canvas.memory[3 * 128 + 16 + i][0] for i in (2, 1, 0))
    client.sock.close()


def test_tls_password_that_is_wrong_is_refused(
    rigs: Callable[..., Rig], certificate: tuple[Path, Path]
) -> None:
    rig = rigs(password=SECRET, certificate=certificate[0], key=certificate[1])
    client = RfbClient(rig.connect())
    vencrypt(client, 262)
    client.read(1)
    secured(client, certificate[0])
    client.send(struct.pack(">II", 0, 7) + b"secretx")
    assert client.number(4) == 1
    client.sock.close()


def test_tls_without_a_password_shows_the_desktop(
    rigs: Callable[..., Rig], certificate: tuple[Path, Path]
) -> None:
    rig = rigs(certificate=certificate[0], key=certificate[1])
    client = RfbClient(rig.connect())
    assert vencrypt(client, 260) == [260]
    client.read(1)
    secured(client, certificate[0])
    assert client.number(4) == 0
    client.start()
    client.sock.close()


def test_certificate_that_does_not_load_is_an_error_of_one_line(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(DeviceError, match=r"no RFB server: .*no\.pem: "):
        Rig(certificate=tmp_path / "no.pem", key=certificate[1])


def test_clients_beyond_the_bound_are_refused(rigs: Callable[..., Rig]) -> None:
    rig = rigs(max_clients=2)
    clients = [rig.connect(), rig.connect()]
    with pytest.raises(DeviceError, match="too many clients"):
        rig.connect()
    clients.pop().close()
    rig.wait(lambda: len(rig.server.clients) < 2)
    clients.append(rig.connect())
    for client in clients:
        client.close()


# Input


def test_keys_by_place_and_by_letter_arrive(rig: Rig, client: RfbClient) -> None:
    client.key(ord("y"), 1)
    client.key(ord("y"), 0)
    client.set_encodings(RAW, QEMU_KEY)
    client.request()
    assert client.update()[0].encoding == QEMU_KEY
    for down in (1, 0):  # a German keyboard's y is where the z is
        client.send(struct.pack(">BBHII", 255, 0, down, ord("y"), 0x2C))
        client.send(struct.pack(">BBHII", 255, 0, down, 0xFF52, 0xC8))
    assert rig.keyboard.wait(6) == [
        [Key(21, down=True)],
        [Key(21, down=False)],
        [Key(44, down=True)],
        [Key(103, down=True)],
        [Key(44, down=False)],
        [Key(103, down=False)],
    ]


def test_letter_without_its_shift_gets_one(rig: Rig, client: RfbClient) -> None:
    client.key(ord("A"), 1)
    client.key(ord("A"), 0)
    shift, letter = 42, 30
    assert rig.keyboard.wait(4) == [
        [Key(shift, down=True)],
        [Key(letter, down=True)],
        [Key(letter, down=False)],
        [Key(shift, down=False)],
    ]


def test_letter_with_its_shift_gets_no_other(rig: Rig, client: RfbClient) -> None:
    for keysym, down in ((0xFFE1, 1), (ord("A"), 1), (ord("A"), 0), (0xFFE1, 0)):
        client.key(keysym, down)
    assert [frame[0] for frame in rig.keyboard.wait(4)] == [
        Key(42, down=True),
        Key(30, down=True),
        Key(30, down=False),
        Key(42, down=False),
    ]


def test_pointer_arrives_with_its_buttons_and_wheel(rig: Rig, client: RfbClient) -> None:
    client.pointer(0, 31, 15)
    client.pointer(1, 0, 0)
    client.pointer(1 | 8, 0, 0)
    client.pointer(0, 9, 9)
    frames = rig.tablet.wait(4)
    assert frames[0] == [PointerAbsolute(32767, 32767)]
    assert frames[1] == [PointerAbsolute(0, 0), PointerButton(Button.LEFT, down=True)]
    assert frames[2] == [PointerAbsolute(0, 0), Wheel(0, -120)]
    assert frames[3][1:] == [PointerButton(Button.LEFT, down=False)]


def test_pointer_of_more_buttons_arrives(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, MOUSE)
    client.request()
    assert client.update()[0].encoding == MOUSE
    client.send(struct.pack(">BBHHB", 5, 0x80, 0, 0, 0b11))
    client.pointer(0, 0, 0)
    frames = rig.tablet.wait(2)
    assert frames[0][1:] == [PointerButton(Button.SIDE, down=True), PointerButton(Button.EXTRA, down=True)]


def test_client_that_leaves_lifts_what_it_held(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.key(0xFFE3, 1)
    client.pointer(1, 3, 3)
    client.send(private(1, struct.pack(">BBHHH", 0, 2, 0, 5, 5)))
    rig.touch.wait(1)
    client.sock.close()
    rig.wait(rig.gone)
    assert rig.keyboard.wait(2)[-1] == [Key(29, down=False)]
    assert rig.tablet.wait(2)[-1] == [PointerButton(Button.LEFT, down=False)]
    assert rig.touch.wait(2)[-1] == [Touch(TouchPhase.END, 2)]


def test_lamps_of_the_keyboard_are_told(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, QEMU_LED)
    client.request()
    client.update()
    client.request(1)
    rig.call(lambda: rig.keyboard.light(Led.CAPS_LOCK | Led.SCROLL_LOCK))
    (rectangle,) = client.update()
    assert (rectangle.encoding, rectangle.payload) == (QEMU_LED, b"\x05")


# Sizes


def resize(width: int, height: int, screen: int = 0, count: int = 1) -> bytes:
    layout = struct.pack(">IHHHHI", screen, 0, 0, width, height, 0) * count
    return struct.pack(">BxHHBx", 251, width, height, count) + layout


@pytest.mark.parametrize(
    ("message", "status", "wanted"),
    [
        (resize(800, 600), 4, [(800, 600)]),
        (resize(0, 600), 3, []),
        (resize(800, 20000), 3, []),
        (resize(800, 600, count=0), 3, []),
        (resize(800, 600, count=200), 3, []),
        (resize(800, 600, screen=7), 3, []),
    ],
)
def test_size_that_a_client_wants_is_passed_on(
    rig: Rig, client: RfbClient, message: bytes, status: int, wanted: list[tuple[int, int]]
) -> None:
    client.set_encodings(RAW, EXTENDED_SIZE)
    client.request()
    client.update()
    client.send(message)
    client.request(1)
    (rectangle,) = client.update()
    assert rectangle[:5] == (1, status, 32, 16, EXTENDED_SIZE)
    rig.call(lambda: None)
    assert rig.canvas.wanted == wanted


# Fences and continuous updates


def read_fence(client: RfbClient) -> tuple[int, bytes]:
    assert client.read(4) == b"\xf8\0\0\0"
    return client.number(4), client.read(client.read(1)[0])


def test_fence_is_answered_with_what_is_known_of_its_flags(client: RfbClient) -> None:
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 0xFFFFFFFF, 64) + bytes(range(64)))
    assert read_fence(client) == (7, bytes(range(64)))


def test_continuous_updates_come_unasked_and_wait_for_fences(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, FENCE, CONTINUOUS)
    assert client.read(1) == b"\x96"
    client.send(struct.pack(">BBHHHH", 150, 1, 0, 0, 32, 16))
    client.update()
    flags, payload = read_fence(client)
    assert flags == 0x80000001
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 1, len(payload)) + payload)
    for _ in range(2):  # on their way at most
        rig.canvas.paint(b"\1\2\3\4", 1, 1, 1)
        client.update()
        _, payload = read_fence(client)
    rig.canvas.paint(b"\5\6\7\0", 1, 1, 1)
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(20)
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 1, len(payload)) + payload)
    client.update()
    assert client.pixels[1, 1] == (7, 6, 5)
    read_fence(client)
    client.send(struct.pack(">BBHHHH", 150, 0, 0, 0, 32, 16))
    assert client.read(1) == b"\x96"


# Messages of our own


def private(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BBHI", 214, kind, 0, len(payload)) + payload


def test_touches_of_one_message_are_one_frame(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.request()
    assert client.update()[0].encoding == VDESKTOP
    client.send(private(1, struct.pack(">BBHHHBBHHH", 0, 0, 0, 0, 0, 0, 9, 0, 31, 15)))
    client.send(private(1, struct.pack(">BBHHH", 2, 0, 0, 0, 0)))
    frames = rig.touch.wait(2)
    begin = TouchPhase.BEGIN
    assert frames[0] == [Touch(begin, 0, 0, 0), Touch(begin, 9, 32767, 32767)]
    assert frames[1] == [Touch(TouchPhase.END, 0, 0, 0)]


@pytest.mark.parametrize("size", [0, 1, 20000, 100000])
def test_private_message_arrives_whole(rig: Rig, client: RfbClient, size: int) -> None:
    client.set_encodings(RAW, VDESKTOP)
    payload = os.urandom(size)
    client.send(private(7, payload))
    rig.wait(lambda: bool(rig.private))
    assert rig.private[0][1:] == (7, payload)


def test_private_message_of_the_servers_arrives(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.request()
    client.update()
    (number,) = rig.server.clients
    rig.call(lambda: rig.server.send_private(rig.server.clients[number], 9, b"hello"))
    assert client.read(13) == private(9, b"hello")


def test_stats_tell_what_was_sent(rig: Rig, client: RfbClient) -> None:
    client.picture(RAW)
    client.request()
    client.update()
    (number,) = rig.server.clients
    stats = rig.call(lambda: rig.server.stats(rig.server.clients[number]))
    assert stats["frames"] >= 1  # the last may be told a moment after it was read
    assert stats["pixels"] == stats["frames"] * 32 * 16
    assert stats["bytes_sent"] > 32 * 16 * 4
    assert 0 < stats["memory"] < 8 << 20


# WebSocket


def frame(payload: bytes, opcode: int = 2, *, last: bool = True, mask: bytes = b"\1\2\3\4") -> bytes:
    length = len(payload)
    size = (
        struct.pack(">B", 0x80 | length)
        if length < 126
        else struct.pack(">BH", 0xFE, length)
        if length < 65536
        else struct.pack(">BQ", 0xFF, length)
    )
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([(0x80 if last else 0) | opcode]) + size + mask + hidden


class WebSocket:
    """A browser's end: looks like a socket of the bytes within."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inside = b""
        self.control: list[tuple[int, bytes]] = []

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read_frame(self) -> tuple[int, bytes]:
        first, length = self._exactly(2)
        assert first & 0x80
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        return first & 15, self._exactly(length)

    def recv(self, count: int) -> bytes:
        while not self.inside:
            opcode, payload = self.read_frame()
            if opcode == 2:
                self.inside += payload
            else:
                self.control.append((opcode, payload))
        data, self.inside = self.inside[:count], self.inside[count:]
        return data

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(frame(data))

    def close(self) -> None:
        self.sock.close()


def test_websocket_carries_rfb(rig: Rig) -> None:
    client = RfbClient(WebSocket(rig.connect(websocket=True)))  # type: ignore[arg-type]
    client.login()
    data = os.urandom(32 * 16 * 4)
    rig.canvas.paint(data)
    assert client.picture(RAW)[0][1] == (data[6], data[5], data[4])
    rig.canvas.show(200, 200)  # frames with lengths of 64 bits
    client.set_encodings(RAW, EXTENDED_SIZE)
    for _ in range(3):
        client.request()
        client.update()
    assert (client.width, client.height) == (200, 200)
    client.sock.close()


def test_websocket_bytes_that_were_read_before_are_not_lost(rig: Rig) -> None:
    first = frame(b"RFB 003.008\n")
    sock = rig.connect(websocket=True, first=first[:9])
    sock.sendall(first[9:])
    browser = WebSocket(sock)
    client = RfbClient(browser)  # type: ignore[arg-type]
    assert client.read(12) == b"RFB 003.008\n"
    assert client.read(2) == b"\1\1"
    sock.close()


def test_websocket_fragments_and_pings_are_understood(rig: Rig) -> None:
    sock = rig.connect(websocket=True)
    browser = WebSocket(sock)
    client = RfbClient(browser)  # type: ignore[arg-type]
    assert client.read(12) == b"RFB 003.008\n"
    sock.sendall(frame(b"RFB 003", last=False) + frame(b"still there?", 9) + frame(b"", 0, last=False))
    for byte in frame(b".008\n\1\1", 0):
        sock.sendall(bytes([byte]))
    assert client.read(2 + 4) == b"\1\1\0\0\0\0"
    client.width, client.height = struct.unpack(">HH", client.read(4))
    assert (client.width, client.height) == (32, 16)
    sock.sendall(frame(b"\x03\xe8bye", 8))
    client.read(16 + 4 + 4)
    while (8, b"\x03\xe8") not in browser.control:
        browser.control.append(browser.read_frame())
    assert browser.control == [(10, b"still there?"), (8, b"\x03\xe8")]
    sock.close()
    rig.wait(rig.gone)
