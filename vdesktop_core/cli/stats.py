# SPDX-License-Identifier: MIT
"""How counters are shown: a table or JSON, on standard error, as the console has the output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("table", "json")


def show(counters: Mapping[str, Mapping[str, int]], how: str) -> None:
    """Print counters by device name."""
    if how == "json":
        import json

        sys.stderr.write(json.dumps(counters) + "\n")
        return
    width = max((len(key) for values in counters.values() for key in values), default=0)
    for device, values in counters.items():
        sys.stderr.write(f"{device}\n")
        for key, value in values.items():
            sys.stderr.write(f"  {key:<{width}}  {value:>16,}\n")
