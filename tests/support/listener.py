# SPDX-License-Identifier: MIT
"""What a guest's programs get of its input devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guest import Guest


class Listener:
    """Reads an input device in the guest while something is done."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        number = guest.run(f"grep -l '{name}' /sys/class/input/event*/device/name").split("/")[4]
        guest.run(f"dd if=/dev/input/{number} of=/tmp/{number} bs=24 2>/dev/null & usleep 300000")
        self._file = f"/tmp/{number}"

    def events(self) -> list[tuple[int, int, int]]:
        """Type, code and value of all events so far; struct input_event begins with 16 bytes of time."""
        words = [int(word) for word in self._guest.run(f"od -An -v -td2 {self._file}").split()]
        return [(words[at + 8], words[at + 9], words[at + 10]) for at in range(0, len(words) - 11, 12)]

    def close(self) -> None:
        self._guest.run("killall dd; true")
