# SPDX-License-Identifier: MIT
"""Finds installed plugins: what ``importlib.metadata`` does, for a tenth of its time.

``importlib.metadata`` imports e-mail parsing and zip archives, which takes as long as loading a kernel.
What is needed of it is small: ``entry_points.txt`` of every distribution on ``sys.path`` (PyPA
specifications "Recording installed projects" and "Entry points"). Where distributions may be elsewhere
than in plain folders, it is asked after all.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FOLDER = re.compile(r"(?P<name>.+?)(-[^-]*)?(-py[^-]*)?\.(dist|egg)-info", re.IGNORECASE)
# `name = module:object.attribute [extras]`
_ENTRY = re.compile(
    r"(?P<name>[^=]*[^=\s])\s*=\s*(?P<module>[\w.]+)\s*(:\s*(?P<attribute>[\w.]+))?\s*(\[.*\])?$"
)
_STANDARD_FINDER = "PathFinder"


class EntryPoint(msgspec.Struct, frozen=True):
    """A plugin's name and where it is: a module, or an object in it."""

    name: str
    module: str
    attribute: str = ""

    def load(self) -> object:
        """Import it.

        Raises:
            ConfigError: it cannot be imported.
        """
        try:
            found: object = importlib.import_module(self.module)
            for part in self.attribute.split(".") if self.attribute else ():
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"plugin {self.name!r} cannot be imported: {error}: install it again, or uninstall it"
            ) from error
        return found


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group; of a distribution that is there twice, those of the first."""
    folders = list(dict.fromkeys(Path(path) for path in sys.path))
    if not _only_folders(folders):
        import importlib.metadata

        return [
            EntryPoint(found.name, found.module, found.attr or "")
            for found in importlib.metadata.entry_points(group=group)
        ]
    seen: set[str] = set()
    return [
        entry
        for name, text in _distributions(folders)
        if name not in seen and not seen.add(name)  # type: ignore[func-returns-value]
        for entry in parse(text, group)
    ]


def parse(text: str, group: str) -> Iterator[EntryPoint]:
    """Yield one group's entries of an ``entry_points.txt``; lines that are none are passed over."""
    section = None
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and not line.startswith(("#", ";")) and (match := _ENTRY.match(line)):
            yield EntryPoint(match["name"].strip(), match["module"], match["attribute"] or "")


def _only_folders(paths: Iterable[Path]) -> bool:
    """Whether no distribution can be anywhere but in a folder: no archives, no finders of somebody else's."""
    finders = (f for f in sys.meta_path if hasattr(f, "find_distributions"))
    if any(getattr(finder, "__name__", "") != _STANDARD_FINDER for finder in finders):
        return False
    return not any(path.is_file() for path in paths)


def _distributions(folders: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield normalized name and ``entry_points.txt`` of each distribution, in the order of the path."""
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in sorted(folder.glob("*-info")):
                if match := _FOLDER.fullmatch(path.name):
                    yield re.sub(r"[-_.]+", "-", match["name"]).lower(), _text(path / "entry_points.txt")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
