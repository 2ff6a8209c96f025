# SPDX-License-Identifier: MIT
"""Device models of ours that the next run ends: a killed process left them in a domain that still exists."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

pytest.importorskip("vdesktop_xen._xen", reason="the extension is built for x86_64 hosts")

from vdesktop_xen import marks, servers

from vdesktop_core.errors import BackendError

HANDLE = bytes(range(16))
#: A process that there is not: no PID is 0.
KILLED = bytes.fromhex("5644534b") + marks.mine()[4:8] + bytes(8)


@dataclass
class Xen:
    """Domain 5 is there; servers that are ended."""

    handles: dict[int, bytes] = field(default_factory=lambda: {5: HANDLE})
    ended: list[tuple[int, int]] = field(default_factory=list)
    result: int = 0

    def vx_domains(self, first: int, _most: int, domains: Any, handles: Any) -> int:
        # As Xen does: the first that is not below.
        for number in sorted(self.handles):
            if number >= first:
                domains[0] = number
                servers.ffi.memmove(handles, self.handles[number], 16)
                return 1
        return 0

    def vx_server_end(self, domain: int, server: int) -> int:
        self.ended.append((domain, server))
        return self.result


class Store:
    """XenStore in a dictionary."""

    values: dict[str, str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None: ...

    def write(self, values: dict[str, str]) -> None:
        self.values.update(values)

    def read(self, path: str) -> str | None:
        return self.values.get(path)

    def list(self, path: str) -> list[str]:
        return [each.removeprefix(f"{path}/") for each in self.values if each.startswith(f"{path}/")]

    def delete(self, path: str) -> None:
        self.values.pop(path, None)


@pytest.fixture
def xen(monkeypatch: pytest.MonkeyPatch) -> Xen:
    found = Xen()
    Store.values = {}
    monkeypatch.setattr(servers, "lib", found)
    monkeypatch.setattr(servers, "Store", Store)
    return found


def entry(mark: bytes = KILLED, handle: bytes = HANDLE) -> str:
    return f"{mark.hex()} {handle.hex()}"


def test_server_of_a_process_that_lives_is_left_alone_until_it_is_forgotten(xen: Xen) -> None:
    path = servers.record(5, 2)
    assert Store.values == {f"{servers.ROOT}/5-2": entry(marks.mine())}
    assert servers.sweep() == 0
    assert path in Store.values
    servers.forget(path)
    assert (Store.values, xen.ended) == ({}, [])


def test_server_of_a_killed_process_is_ended_once(xen: Xen, caplog: pytest.LogCaptureFixture) -> None:
    Store.values[f"{servers.ROOT}/5-2"] = entry()
    assert servers.sweep() == 1
    assert servers.sweep() == 0
    assert xen.ended == [(5, 2)]
    assert caplog.messages == ["domain 5 lost its devices: the process that served them was killed"]


def test_record_of_a_domain_that_is_gone_or_another_is_forgotten(xen: Xen) -> None:
    Store.values |= {f"{servers.ROOT}/4-1": entry(), f"{servers.ROOT}/5-1": entry(handle=bytes(16))}
    assert servers.sweep() == 0
    assert (Store.values, xen.ended) == ({}, [])


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESRCH, errno.ENOMEM])
def test_server_that_cannot_be_ended_is_tried_again_unless_it_is_gone(xen: Xen, code: int) -> None:
    Store.values[f"{servers.ROOT}/5-2"] = entry()
    xen.result = -code
    assert servers.sweep() == 0
    assert bool(Store.values) == (code == errno.ENOMEM)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("x", ""), ("5", entry()), ("5-2", ""), ("5-2", "56 78"), ("5-2", "no hex"), ("5-2-1", "")),
        *((name, entry()) for name in ("5-65538", f"{1 << 32 | 5}-2", f"{1 << 64}-2", "-5-2")),
    ],
)
def test_what_nobody_here_wrote_is_left_alone(xen: Xen, name: str, value: str) -> None:
    Store.values[f"{servers.ROOT}/{name}"] = value
    assert servers.sweep() == 0
    assert (len(Store.values), xen.ended) == (1, [])


def test_process_of_another_pid_namespace_is_nobodys_business(xen: Xen) -> None:
    there = KILLED[:4] + bytes(4) + KILLED[8:]
    Store.values[f"{servers.ROOT}/5-2"] = entry(there)
    assert servers.sweep() == 0
    assert xen.ended == []


def test_server_in_a_domain_that_is_gone_is_one_line(xen: Xen) -> None:
    with pytest.raises(BackendError, match="domain 6 is gone"):
        servers.record(6, 1)
    assert xen.ended == []
