# SPDX-License-Identifier: MIT
"""The web display's door: nothing without the token, no foreign page's WebSocket, no file but its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from vdesktop_web import http, server
from vdesktop_web.options import Options, parse_options
from vdesktop_web.server import WebServer

from vdesktop_core.display.frontend import Desktop
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "t0ken-of-this-test"  # noqa: S105
KEY = base64.b64encode(bytes(16)).decode()


class Pictures:
    """Takes sockets over, and keeps them."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def attach(self, sock: socket.socket) -> Pictures:
        self.sockets.append(sock)
        return self

    def counters(self) -> dict[str, int]:
        return {}


@pytest.fixture
async def web() -> AsyncIterator[Any]:
    pictures = Pictures()
    options = Options(0, "127.0.0.1", TOKEN, frozenset({"desk.example"}))
    web_server = WebServer(options, Desktop("m", (), ()), pictures)
    web_server.pictures = pictures  # type: ignore[attr-defined]
    yield web_server
    web_server.close()
    for sock in pictures.sockets:
        sock.close()


def port_of(web_server: WebServer) -> int:
    return int(web_server.address.split(":")[2].partition("/")[0])


async def ask(web_server: WebServer, raw: bytes) -> bytes:
    """Send bytes, and return all that comes until the other side closes or is quiet after an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(web_server))
    with contextlib.closing(writer):
        writer.write(raw)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := await asyncio.wait_for(reader.read(1 << 20), 0.2 if answer else 10):
                answer += part
        return answer


def get(path: str, *headers: str, host: str = "127.0.0.1", method: str = "GET") -> bytes:
    headers = headers or ("Connection: close",)
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def upgrade(path: str, *extra: str, version: str = "13", key: str = KEY) -> bytes:
    words = ("Upgrade: websocket", "Connection: keep-alive, Upgrade", f"Sec-WebSocket-Version: {version}")
    return get(path, *words, f"Sec-WebSocket-Key: {key}", *extra)


OWN = "Origin: http://127.0.0.1"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("", b'<script type="module" src="app.js">'),
        ("app.js", b"import RFB"),
        ("novnc/core/rfb.js", b"class RFB"),
    ],
)
async def test_page_with_the_token_is_served(web: WebServer, path: str, content: bytes) -> None:
    answer = await ask(web, get(f"/{TOKEN}/{path}"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert content in answer
    assert b"Referrer-Policy: no-referrer" in answer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/app.js",
        f"/{TOKEN[:-1]}/",
        f"/{TOKEN}x/",
        f"/{TOKEN}/../{TOKEN}/options.py",
        f"/{TOKEN}/../plugin.py",
        f"/{TOKEN}/%2e%2e/plugin.py",
        f"/{TOKEN}//etc/passwd",
        f"/{TOKEN}/novnc/../../plugin.py",
        f"/{TOKEN}/.packed",
        "http://127.0.0.1/app.js",
    ],
)
async def test_anything_else_is_not_there(web: WebServer, path: str) -> None:
    assert (await ask(web, get(path))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
async def test_page_asked_for_under_a_foreign_name_is_not_there(web: WebServer, host: str) -> None:
    assert (await ask(web, get(f"/{TOKEN}/", host=host))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("host", ["localhost:1", "[::1]:80", "192.0.2.1", "Desk.Example:443"])
async def test_page_asked_for_under_an_own_name_is_served(web: WebServer, host: str) -> None:
    assert (await ask(web, get(f"/{TOKEN}/", host=host))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_",
    [
        upgrade(f"/{TOKEN}/channel"),
        upgrade(f"/{TOKEN}/channel", "Origin: http://evil.example"),
        upgrade(f"/{TOKEN}/channel", "Origin: null"),
        upgrade(f"/{TOKEN}/channel", "Origin: file://127.0.0.1"),
        upgrade(f"/{TOKEN}/channel", OWN, version="8"),
        upgrade(f"/{TOKEN}/channel", OWN, key="AAAA"),
        upgrade(f"/{TOKEN}/channel", OWN, key="*" * 24),
        get(f"/{TOKEN}/channel", OWN),
    ],
)
async def test_websocket_of_a_foreign_or_broken_client_is_refused(web: WebServer, request_: bytes) -> None:
    assert (await ask(web, request_)).startswith(b"HTTP/1.1 403 ")


async def test_websocket_without_the_token_is_not_there(web: WebServer) -> None:
    assert (await ask(web, upgrade("/channel", OWN))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("number", ["1", "0", "-1", "x", "99999999999999999999", "1/2", ""])
async def test_pictures_without_a_channel_are_not_there(web: Any, number: str) -> None:
    assert (await ask(web, upgrade(f"/{TOKEN}/rfb/{number}", OWN))).startswith(b"HTTP/1.1 404 ")
    assert not web.pictures.sockets


async def test_pictures_with_a_channel_get_the_socket(web: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(web))
    with contextlib.closing(writer):
        writer.write(upgrade(f"/{TOKEN}/channel", OWN))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await reader.readuntil(b'"hello"')
        assert (await ask(web, upgrade(f"/{TOKEN}/rfb/1", OWN))).startswith(b"HTTP/1.1 101 ")
        assert len(web.pictures.sockets) == 1


async def test_pictures_with_bytes_before_the_answer_are_refused(web: Any) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(web))
    with contextlib.closing(writer):
        writer.write(upgrade(f"/{TOKEN}/channel", OWN))
        await asyncio.sleep(0.1)
        await ask(web, upgrade(f"/{TOKEN}/rfb/1", OWN) + b"\x82\x80")
        assert not web.pictures.sockets


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        f"POST /{TOKEN}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello".encode(),
        random.Random(4096).randbytes(4096),
        b"\n" * 4096,
    ],
    ids=["tls", "no host", "version", "long path", "many headers", "body", "noise", "empty lines"],
)
async def test_client_that_speaks_no_http_is_closed(web: WebServer, raw: bytes) -> None:
    answer = await ask(web, raw)
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert (await ask(web, get(f"/{TOKEN}/"))).startswith(b"HTTP/1.1 200 ")


async def test_client_that_never_asks_is_closed(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(web))
    with contextlib.closing(writer):
        writer.write(b"GET / HT")
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_flood_of_connections_leaves_those_that_are_there(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    first = await asyncio.open_connection("127.0.0.1", port_of(web))
    rest = [await asyncio.open_connection("127.0.0.1", port_of(web)) for _ in range(20)]
    closed = 0
    for reader, _ in rest[3:]:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        closed += 1
    assert closed == 17
    first[1].write(get(f"/{TOKEN}/"))
    assert (await asyncio.wait_for(first[0].readline(), 10)).startswith(b"HTTP/1.1 200 ")
    for _, writer in [first, *rest]:
        writer.close()


async def test_port_that_is_taken_is_one_line(web: WebServer) -> None:
    options = Options(port_of(web), "127.0.0.1", TOKEN, frozenset())
    with pytest.raises(DeviceError, match=r"cannot listen at 127\.0\.0\.1 port \d+: .*web:PORT"):
        WebServer(options, Desktop("m", (), ()), Pictures())


def test_options_given_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    options = parse_options(f"6080,listen=::1,host=Desk.example,token-file={file}")
    assert options == Options(6080, "::1", "0123456789abcdef", frozenset({"desk.example"}))


def test_options_without_a_token_get_a_new_one_each() -> None:
    first, second = parse_options(""), parse_options("")
    assert first.port == 0
    assert first.listen == "127.0.0.1"
    assert len(first.token) >= 24
    assert first.token != second.token


@pytest.mark.parametrize(
    "argument",
    [
        "x",
        "65536",
        "-1",
        "80,listen=all",
        "80,host=a/b",
        "80,token=abc",
        "80,token-file=",
        ",token-file=/nowhere",
        "80,",
    ],
)
def test_options_that_make_no_sense_are_one_line(argument: str) -> None:
    with pytest.raises(ConfigError, match=r"^display web: .+") as caught:
        parse_options(argument)
    assert "\n" not in str(caught.value)


def test_token_that_could_be_guessed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short")
    with pytest.raises(ConfigError, match="16 to 128"):
        parse_options(f",token-file={file}")
