# SPDX-License-Identifier: MIT
# The compiled C core. Its functions and types are those of native/include/vdesktop/*.h.

from typing import Any

#: A cffi ``FFI`` (types-cffi types C data too narrowly to read a struct's fields).
ffi: Any
lib: Any
