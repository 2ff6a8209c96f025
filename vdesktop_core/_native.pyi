# SPDX-License-Identifier: MIT
"""The compiled C core. Its functions and types are those of native/include/vdesktop/*.h."""

from typing import Any

from cffi import FFI

ffi: FFI
lib: Any
