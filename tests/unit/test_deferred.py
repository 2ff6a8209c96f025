# SPDX-License-Identifier: MIT
"""Modules that the command imports only when they are used."""

from __future__ import annotations

import subprocess
import sys


def _python(code: str) -> str:
    """Run code in a process of its own: imports cannot be undone."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_command_that_needs_no_tls_does_not_load_it() -> None:
    code = """
import sys
from vdesktop_core.cli.main import main
sys.argv = ["vdesktop", "run", "--kernel", "/no/such/kernel"]
try:
    main()
except SystemExit:
    pass
print("asyncio" in sys.modules, "_ssl" in sys.modules)
"""
    assert _python(code) == "True False"


def test_deferred_tls_works_in_asyncio_once_it_is_used() -> None:
    code = """
from vdesktop_core.cli.deferred import TLS, defer
defer(*TLS)
import asyncio, sys
early = "_ssl" in sys.modules

async def talk():
    import ssl, socket
    ours, theirs = socket.socketpair()
    async def nothing(reader, writer):
        pass
    reader, writer = await asyncio.open_connection(sock=ours)
    context = ssl.create_default_context()
    task = asyncio.ensure_future(writer.start_tls(context, server_hostname="localhost"))
    loop = asyncio.get_running_loop()
    theirs.setblocking(False)
    hello = await loop.sock_recv(theirs, 3)
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, OSError):
        pass
    theirs.close()
    writer.transport.abort()
    import ssl as again
    return hello, type(asyncio.sslproto).__name__, again.SSLContext is ssl.SSLContext

print(early, *asyncio.run(talk()))
"""
    # A TLS record of type handshake (22), version 3.1 (RFC 8446, section 5.1).
    assert _python(code).startswith(r"False b'\x16\x03\x01' ")
    assert _python(code).endswith("True")


def test_deferred_module_that_is_there_already_stays() -> None:
    code = """
import ssl
from vdesktop_core.cli.deferred import TLS, defer
defer(*TLS)
import sys
print(sys.modules["ssl"] is ssl)
"""
    assert _python(code) == "True"
