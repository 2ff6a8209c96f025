# SPDX-License-Identifier: MIT
"""RFB: who gets in, with a password, with TLS, and how many."""

from __future__ import annotations

import os
import ssl
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from rfb_client import (
    RAW,
    RfbClient,
)
from rfb_rig import Rig

from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
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


def test_tls_sends_no_session_ticket(rigs: Callable[..., Rig], certificate: tuple[Path, Path]) -> None:
    """TigerVNC 1.12 waits for ever for what follows one at once: the challenge."""
    rig = rigs(password=SECRET, certificate=certificate[0], key=certificate[1])
    client = RfbClient(rig.connect())
    vencrypt(client, 261)
    client.read(1)
    secured(client, certificate[0])
    assert len(client.read(16)) == 16
    assert isinstance(client.sock, ssl.SSLSocket)
    assert client.sock.version() == "TLSv1.3"
    assert client.sock.session is None or not client.sock.session.has_ticket
    client.sock.close()
