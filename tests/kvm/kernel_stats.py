# SPDX-License-Identifier: MIT
"""KVM's own counters of a vCPU (``KVM_GET_STATS_FD``, Linux 5.14): what the process does not see, too."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Self

#: _IO(KVMIO, 0xce)
_GET_STATS_FD = 0xAECE
#: struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
_HEADER = struct.Struct("<6I")
#: struct kvm_stats_desc: flags, exponent, size, offset, bucket_size; the name follows.
_DESC = struct.Struct("<IhHII")


def vcpu_descriptor(index: int = 0) -> int:
    """Return this process's descriptor of a vCPU of its only VM."""
    name = f"anon_inode:kvm-vcpu:{index}"
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        try:
            link = Path(f"/proc/self/fd/{fd}").readlink()
        except FileNotFoundError:  # the listing's own
            continue
        if str(link) == name:
            return fd
    raise LookupError(f"no vCPU {index} is open")


class KernelStats:
    """The counters of the first vCPU. Use it in a ``with`` statement, while the vCPU lives."""

    def __init__(self) -> None:
        self._fd = fcntl.ioctl(vcpu_descriptor(), _GET_STATS_FD)
        _, name_size, count, _, at, self._data = _HEADER.unpack(os.pread(self._fd, _HEADER.size, 0))
        self._places: dict[str, int] = {}
        for index in range(count):
            raw = os.pread(self._fd, _DESC.size + name_size, at + index * (_DESC.size + name_size))
            _, _, size, offset, _ = _DESC.unpack_from(raw)
            if size == 1:  # no histogram
                self._places[raw[_DESC.size :].partition(b"\0")[0].decode()] = offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self) -> dict[str, int]:
        """Return every counter by its name."""
        return {
            name: int.from_bytes(os.pread(self._fd, 8, self._data + offset), "little")
            for name, offset in self._places.items()
        }
