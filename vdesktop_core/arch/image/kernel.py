# SPDX-License-Identifier: MIT
"""From a file to an image of a known kind: what it is, for whom, and what is wrapped in it."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.image import linux
from vdesktop_core.arch.image.compression import IMAGE_LIMIT, identify
from vdesktop_core.arch.image.files import ImageFile
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from pathlib import Path

#: Enough for every header that tells a kind: bzImage's ends below 0x270.
_HEAD = 1024


class Kind(enum.Enum):
    """What a file is."""

    IMAGE = "Image"  #: of arm64 or riscv
    BZIMAGE = "bzImage"
    ELF = "ELF program"
    ZBOOT = "EFI zboot image"  #: a PE program around a compressed image
    COMPRESSED = "compressed file"


class _Identity(msgspec.Struct, frozen=True):
    kind: Kind
    #: An ``uname -m`` name, or None where it is only known after unpacking.
    machine: str | None


# e_machine (ELF gABI) and Machine (PE/COFF), as far as Linux kernels are known to come.
_ELF_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}
_PE_MACHINES = {
    0x14C: "i386",
    0x1C2: "arm",
    0x8664: "x86_64",
    0xAA64: "aarch64",
    0x5064: "riscv64",
    0x6264: "loongarch64",
}


def _elf_machine(head: bytes) -> str:
    if len(head) < 64:
        return "?"
    order = ">" if head[5] == 2 else "<"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    name = _ELF_MACHINES.get(machine, f"ELF machine {machine}")
    if name == "riscv64" and head[4] == 1:
        return "riscv32"
    return name


def _pe_machine(head: bytes) -> str | None:
    if len(head) < 64:
        return None
    (offset,) = struct.unpack_from("<I", head, 0x3C)
    if offset + 6 > len(head) or head[offset : offset + 4] != b"PE\0\0":
        return None
    (machine,) = struct.unpack_from("<H", head, offset + 4)
    return _PE_MACHINES.get(machine, f"PE machine {machine:#x}")


def _identify(head: bytes, name: str) -> _Identity:
    if head[0x1FE:0x200] == b"\x55\xaa" and head[0x202:0x206] == b"HdrS":
        return _Identity(Kind.BZIMAGE, "x86_64")
    if head[4:8] == b"zimg" and head[:2] == b"MZ":
        return _Identity(Kind.ZBOOT, _pe_machine(head))
    magic = head[linux.MAGIC_OFFSET : linux.MAGIC_OFFSET + 4]
    if magic == linux.ARM64_MAGIC:
        return _Identity(Kind.IMAGE, "aarch64")
    if magic == linux.RISCV_MAGIC:
        return _Identity(Kind.IMAGE, "riscv64")
    if head[:4] == b"\x7fELF":
        return _Identity(Kind.ELF, _elf_machine(head))
    if identify(head) is not None:
        return _Identity(Kind.COMPRESSED, None)
    if head[:2] == b"MZ" and (machine := _pe_machine(head)):
        raise BootError(f"{name}: an EFI program for {machine}, not a Linux kernel")
    if head[:4] == b"\x27\x05\x19\x56":
        raise BootError(f"{name}: a U-Boot uImage: give the kernel's Image or vmlinuz instead")
    if head[:6] in (b"070701", b"070702"):
        raise BootError(f"{name}: a cpio archive, not a kernel: was it meant for --initrd?")
    raise BootError(f"{name}: not a Linux kernel (Image, bzImage, EFI zboot or vmlinux)")


def open_kernel(path: Path, arch: Arch, accepted: frozenset[Kind]) -> tuple[Kind, ImageFile]:
    """Open a kernel for a machine of ``arch``, unpacked as far as it takes to be of an accepted kind.

    Raises:
        BootError: it is not a kernel, not for this architecture, of no accepted kind, or corrupt.
    """
    file = ImageFile.open(path, "kernel", IMAGE_LIMIT)
    # A compressed image can hold a zboot image, which holds an Image: nothing valid nests deeper.
    for _ in range(3):
        try:
            kind, inner = _unwrap(file, arch, accepted)
        except BaseException:
            file.close()
            raise
        if inner is None:
            return kind, file
        file.close()
        file = inner
    file.close()
    raise BootError(f"{file.name}: compressed more than twice: not a kernel")


def unpack(file: ImageFile, offset: int, size: int, *, size_word: bool = False) -> ImageFile:
    """As :func:`vdesktop_core.arch.image.cache.unpacked`, imported only by those who need it."""
    from vdesktop_core.arch.image.cache import unpacked

    return unpacked(file, offset, size, size_word=size_word)


def _unwrap(file: ImageFile, arch: Arch, accepted: frozenset[Kind]) -> tuple[Kind, ImageFile | None]:
    identity = _identify(file.head(_HEAD), file.name)
    if identity.machine is not None and identity.machine != arch:
        raise BootError(_wrong_machine(file.name, identity.machine, arch))
    if identity.kind is Kind.COMPRESSED:
        return identity.kind, unpack(file, 0, file.size)
    if identity.kind is Kind.ZBOOT:
        return identity.kind, _open_zboot(file)
    if identity.kind not in accepted:
        raise BootError(
            f"{file.name}: an {identity.kind.value}: on {arch}, give the kernel's Image (/boot/vmlinuz)"
        )
    return identity.kind, None


def _wrong_machine(name: str, machine: str, arch: Arch) -> str:
    what = f"{name}: a kernel for {machine}, but this machine is {arch}"
    return (
        f"{what}: use --arch {machine} or another kernel"
        if machine in set(Arch)
        else f"{what}: use another kernel"
    )


def _open_zboot(file: ImageFile) -> ImageFile:
    """Unpack an EFI zboot image (Linux ``drivers/firmware/efi/libstub/zboot-header.S``)."""
    head = file.head(64)
    if len(head) < 64:
        raise BootError(f"{file.name}: truncated: the EFI zboot header is incomplete")
    offset, size = struct.unpack_from("<II", head, 8)
    if offset < 64 or size == 0:
        raise BootError(
            f"{file.name}: its EFI zboot header is corrupt (payload of {size} bytes at {offset:#x})"
        )
    return unpack(file, offset, size)
