# SPDX-License-Identifier: MIT
"""Loading of the architectures whose kernel is an ``Image`` and whose machine is a device tree."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from vdesktop_core.arch.boot import INITRD_LIMIT
from vdesktop_core.arch.command_line import command_line
from vdesktop_core.arch.device_tree import TREE_LIMIT
from vdesktop_core.arch.image.files import ImageFile
from vdesktop_core.arch.image.kernel import Kind, open_kernel
from vdesktop_core.arch.image.linux import ALIGNMENT, parse_image
from vdesktop_core.arch.memory_map import Window
from vdesktop_core.arch.placement import Floating, place
from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from vdesktop_core.arch.boot import BootSource, MachineLayout, WritableMemory
    from vdesktop_core.arch.efi import EfiTables
    from vdesktop_core.hypervisor import Arch, EntryState, Platform

#: Of the place that EFI's tables take, in bytes.
EFI_TABLES_SIZE = 4096


class FlatLoader(abc.ABC):
    """Kernel low, initrd and device tree high in the first bank of RAM."""

    arch: ClassVar[Arch]
    #: COMMAND_LINE_SIZE - 1 of the oldest supported kernel.
    command_line_limit: ClassVar[int]
    #: Whether the architecture's kernels need EFI's tables to find the boot framebuffer.
    efi_screen: ClassVar[bool] = False

    def __init__(self, source: BootSource) -> None:
        self._append = source.append
        _, file = open_kernel(source.kernel, self.arch, frozenset({Kind.IMAGE}))
        self._initrd: ImageFile | None = None
        try:
            self._kernel = parse_image(file)
            if source.initrd is not None:
                self._initrd = ImageFile.open(source.initrd, "initrd", INITRD_LIMIT)
        except BaseException:
            file.close()
            raise

    def load(self, layout: MachineLayout, platform: Platform, memory: WritableMemory) -> EntryState:
        """Implement :meth:`vdesktop_core.arch.boot.Loader.load`."""
        bank = layout.ram[0]
        start = -(-bank.base // ALIGNMENT) * ALIGNMENT + self._kernel.text_offset
        floating = [Floating("device tree", TREE_LIMIT, TREE_LIMIT)]
        if self._initrd is not None:
            floating.insert(0, Floating("initrd", self._initrd.size))
        screen = layout.framebuffer if self.efi_screen else None
        if screen is not None:
            floating.append(Floating("EFI tables", EFI_TABLES_SIZE))
        places = place(
            bank,
            {"kernel": Window(start, self._kernel.memory_size)},
            floating,
            sum(window.size for window in layout.ram),
        )
        arguments = command_line(self._append, (*platform.append, *layout.append), self.command_line_limit)
        efi = None
        if screen is not None:
            from vdesktop_core.arch.efi import efi_tables  # only where it is needed: start-up time

            efi = efi_tables(screen, layout.ram, places["EFI tables"])
        tree = self.device_tree(layout, platform, arguments, places.get("initrd"), efi)
        if len(tree) > TREE_LIMIT:
            raise BootError(
                f"the device tree has {len(tree)} bytes, {TREE_LIMIT} are allowed: use fewer vCPUs"
            )
        self._kernel.file.copy_to(memory, start)
        if self._initrd is not None:
            self._initrd.copy_to(memory, places["initrd"].base)
        memory.write(places["device tree"].base, tree)
        if efi is not None:
            memory.write(efi.base, efi.data)
        return self.entry(start, places["device tree"].base, platform.cpu_ids[0])

    def close(self) -> None:
        """Close files. Idempotent."""
        self._kernel.file.close()
        if self._initrd is not None:
            self._initrd.close()

    @abc.abstractmethod
    def device_tree(
        self,
        layout: MachineLayout,
        platform: Platform,
        arguments: bytes,
        initrd: Window | None,
        efi: EfiTables | None,
    ) -> bytes:
        """Describe the machine."""

    @abc.abstractmethod
    def entry(self, kernel: int, tree: int, boot_cpu: int, /) -> EntryState:
        """Return the registers of the vCPU whose hardware id is ``boot_cpu``, by the boot protocol."""
