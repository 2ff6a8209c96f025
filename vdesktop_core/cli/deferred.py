# SPDX-License-Identifier: MIT
"""Modules that are imported when they are used, whoever imports them.

asyncio imports TLS with itself, 10 ms and 5 MB of every start, and no machine needs it before a plugin
does. A stand-in takes the module's place until somebody asks it for anything; then it imports the module
and hands on what it is asked for. (``importlib.util.LazyLoader`` cannot do this: another ``import`` of the
module, which is what asyncio does, already loads it.)

Only the ``vdesktop`` command does so: in somebody else's process, imports are not ours to change.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

#: What asyncio imports for TLS. Its own part of it uses ``ssl`` as it is imported.
TLS = ("ssl", "asyncio.sslproto")


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        # Only what this object lacks comes here; the import system's own questions are answered below.
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def defer(*names: str) -> None:
    """Put off the import of modules; those that are imported already stay as they are."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = _StandIn(name)
