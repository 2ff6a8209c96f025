# SPDX-License-Identifier: MIT
"""Kernel modules: which files a set of names needs, and the index files that modprobe reads.

Debian's kernel packages carry no modules.dep (depmod makes it at installation), so dependencies
come from the modules themselves: the ``.modinfo`` section's ``depends`` and ``softdep pre:``.
"""

from __future__ import annotations

import io
import lzma
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from vdesktop_core.errors import GuestBuildError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst")


@dataclass(frozen=True, slots=True)
class Module:
    """One module file, decompressed.

    Attributes:
        path: below ``/lib/modules/RELEASE``, without a compression suffix.
        depends: names of the modules it needs loaded before, directly.
        aliases: patterns of the devices it drives.
    """

    name: str
    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


def canonical(name: str) -> str:
    """Return a module's name as the kernel writes it: file names may have dashes."""
    return name.replace("-", "_")


class ModuleTree:
    """The modules of one kernel, unpacked at ``/lib/modules/RELEASE`` of some folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = {
            canonical(path.name.partition(".ko")[0]): path
            for path in folder.rglob("*.ko*")
            if path.name.endswith(_SUFFIXES)
        }
        builtin = folder / "modules.builtin"
        self._builtin = {
            canonical(line.rpartition("/")[2].removesuffix(".ko"))
            for line in builtin.read_text(encoding="utf-8").split()
        }

    def resolve(self, names: tuple[str, ...]) -> list[Module]:
        """Return the modules of these names and all they depend on, in an order they can be loaded in.

        Raises:
            GuestBuildError: the kernel has no such module, or a file of it is damaged.
        """
        found: dict[str, Module] = {}
        for name in names:
            self._add(canonical(name), found, required_by=None)
        return list(found.values())

    def present(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the names that are modules of this kernel's: not every architecture has all."""
        return tuple(name for name in names if canonical(name) in self._files)

    def _add(self, name: str, found: dict[str, Module], required_by: str | None) -> None:
        if name in found or name in self._builtin:
            return
        path = self._files.get(name)
        if path is None:
            reason = f", which {required_by} needs" if required_by else ""
            raise GuestBuildError(
                f"the kernel in {self.folder.name} has no module {name}{reason}: try another --suite"
            )
        data = _decompress(path)
        info = modinfo(data, path.name)
        depends = tuple(canonical(d) for d in info.get("depends", [""])[0].split(",") if d)
        for needed in depends:
            self._add(needed, found, required_by=name)
        for soft in _soft_dependencies(info):
            # Soft: better loaded before, as a faster implementation of something; absence is legal.
            if soft in self._files:
                self._add(soft, found, required_by=name)
                depends += (soft,)
        relative = path.relative_to(self.folder).as_posix()
        plain = relative[: relative.index(".ko") + 3]
        found[name] = Module(name, plain, data, depends, tuple(info.get("alias", ())))


def modinfo(data: bytes, name: str) -> dict[str, list[str]]:
    """Return a module's ``.modinfo``: values by key, in file order.

    Raises:
        GuestBuildError: this is no kernel module.
    """
    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".modinfo")
        content = section.data() if section is not None else b""
    except ELFError as error:
        raise GuestBuildError(
            f"{name} is no ELF file ({error}): remove the cache folder, build again"
        ) from error
    values: dict[str, list[str]] = {}
    for entry in content.decode("utf-8", "replace").split("\0"):
        key, equals, value = entry.partition("=")
        if equals:
            values.setdefault(key, []).append(value)
    return values


def modules_dep(modules: list[Module]) -> str:
    """Return ``modules.dep``: a line for each module, with all that it needs.

    Loaded from the last to the first, as modprobe does, each finds what it needs.

    Args:
        modules: in an order they can be loaded in.
    """
    by_name = {module.name: module for module in modules}

    def needed(module: Module, seen: set[str]) -> set[str]:
        for name in module.depends:
            if name in by_name and name not in seen:
                seen.add(name)
                needed(by_name[name], seen)
        return seen

    def line(module: Module) -> str:
        names = needed(module, set())
        paths = [other.path for other in reversed(modules) if other.name in names]
        return " ".join([module.path + ":", *paths])

    return "".join(line(module) + "\n" for module in modules)


def modules_alias(modules: list[Module]) -> str:
    """Return ``modules.alias``: which module drives which device."""
    return "".join(f"alias {alias} {module.name}\n" for module in modules for alias in module.aliases)


def _soft_dependencies(info: dict[str, list[str]]) -> list[str]:
    names: list[str] = []
    for line in info.get("softdep", ()):
        target = None
        for word in line.split():
            if word in ("pre:", "post:"):
                target = word
            elif target == "pre:":
                names.append(canonical(word))
    return names


def _decompress(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (lzma.LZMAError, zstandard.ZstdError) as error:
        raise GuestBuildError(
            f"{path.name} is damaged ({error}): remove the cache folder, build again"
        ) from error
    return data
