# SPDX-License-Identifier: MIT
"""The gpu's outputs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import lib
from vdesktop_core.display.native import NativeScanout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class GpuScreen:
    """The scanouts of a ``struct vd_gpu``; ``refresh`` is called before somebody begins to look at one."""

    def __init__(self, gpu: Any, count: int, refresh: Callable[[], None] = lambda: None) -> None:
        self._gpu = gpu
        self._scanouts = tuple(
            NativeScanout(lib.vd_gpu_scanout(gpu, index), partial(self._request, index), refresh)
            for index in range(count)
        )

    @property
    def scanouts(self) -> Sequence[NativeScanout]:
        """All of them, connected or not."""
        return self._scanouts

    def close(self) -> None:
        """End all views."""
        for scanout in self._scanouts:
            scanout.close()

    def _request(self, index: int, width: int, height: int) -> None:
        if width or height:
            least, most = lib.VD_GPU_SIZE_MIN, lib.VD_GPU_SIZE_MAX
            width, height = (max(least, min(value, most)) for value in (width, height))
        lib.vd_gpu_request_size(self._gpu, index, width, height)
