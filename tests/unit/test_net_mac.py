# SPDX-License-Identifier: MIT
"""The address that a network card has when nobody gave it one."""

from __future__ import annotations

import subprocess
import sys

from vdesktop_core.devices.net.device import stable_mac


def test_stable_mac_is_the_same_every_time_and_locally_administered_unicast() -> None:
    assert stable_mac("desk", "net0").hex(":") == stable_mac("desk", "net0").hex(":")
    for number in range(500):
        assert stable_mac("desk", f"net{number}")[0] & 3 == 2  # IEEE 802: U/L set, I/G clear


def test_stable_mac_of_many_names_are_all_different() -> None:
    names = [(f"machine{a}", f"net{b}") for a in range(2000) for b in range(8)]
    assert len({stable_mac(*name) for name in names}) == len(names)


def test_stable_mac_loads_no_cryptography() -> None:
    code = (
        "import sys; from vdesktop_core.devices.net.device import stable_mac; "
        "stable_mac('a', 'b'); print('_hashlib' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
