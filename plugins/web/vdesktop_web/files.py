# SPDX-License-Identifier: MIT
"""The files that a browser gets: those of the package, found before anyone asks, and no other."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vdesktop_core.errors import DeviceError

_HERE = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Page(msgspec.Struct, frozen=True):
    """A file of the page's."""

    content_type: str
    content: bytes


def pages() -> dict[str, Page]:
    """Return every file by its path below the token; the empty path is the page itself.

    Raises:
        DeviceError: noVNC was not there when this package was built.
    """
    if not (_HERE / "novnc" / "core" / "rfb.js").is_file():
        raise DeviceError(
            "display web: noVNC is not in this installation: install npm (apt-get install npm),"
            " then install vdesktop again from its source"
        )
    found = {}
    for folder, prefix in ((_HERE / "page", ""), (_HERE / "novnc", "novnc/")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _TYPES and path.is_file():
                name = prefix + path.relative_to(folder).as_posix()
                found[name] = Page(_TYPES[path.suffix], path.read_bytes())
    found[""] = found.pop("index.html")
    return found
