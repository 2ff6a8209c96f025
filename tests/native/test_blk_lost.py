# SPDX-License-Identifier: MIT
"""A disk whose image is taken away while its driver uses it (``vd_device_ops.lose``)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from blk_rig import FLUSH, IN, IOERR, OK, OUT, UNTOUCHED, Gate, StubStore, opened, stub_disk
from split_driver import wait_for

from vdesktop_core._native import lib

if TYPE_CHECKING:
    from blk_rig import Disk

IN_FLIGHT = 20


def lose(disk: Disk) -> bool:
    return bool(lib.vd_mmio_lose(disk.rig.mmio))


def statuses(disk: Disk) -> list[int]:
    return [disk.status(i) for i in range(IN_FLIGHT)]


@pytest.mark.parametrize("kind", [IN, OUT])
def test_lost_disk_completes_what_runs_and_fails_what_waits(kind: int) -> None:
    store = StubStore()
    gate = Gate(store, "read" if kind == IN else "write")
    with stub_disk(store, workers=2) as disk, opened(gate):
        disk.start()
        for i in range(IN_FLIGHT):
            if kind == IN:
                disk.submit(IN, i, into=512, i=i)
            else:
                disk.submit(OUT, i, bytes([i + 1]) * 512, i=i)
        wait_for(lambda: gate.arrived == 2, "both workers")
        losing = threading.Thread(target=lose, args=(disk,))
        losing.start()
        losing.join(0.2)
        assert losing.is_alive(), "the image was let go of while a worker was in it"
        gate.open.set()
        losing.join(60)
        assert not losing.is_alive()
        wait_for(lambda: UNTOUCHED not in statuses(disk), "answers")
        assert sorted(statuses(disk)) == [OK] * 2 + [IOERR] * (IN_FLIGHT - 2)
        assert disk.rig.used_index(0) == IN_FLIGHT
        assert store.calls[-1] == ("flush",), "acknowledged writes are stable before it returns"
        if kind == OUT:
            done = [i for i, status in enumerate(statuses(disk)) if status == OK]
            assert all(store.stable[i * 512 : i * 512 + 512] == bytes([i + 1]) * 512 for i in done)


def test_lost_disk_fails_everything_at_once_and_never_touches_its_store_again() -> None:
    store = StubStore()
    with stub_disk(store, queues=2) as disk:
        disk.start()
        assert disk.request(OUT, 0, b"x" * 512) == OK
        assert lose(disk)
        calls = list(store.calls)
        for index in (0, 1):
            assert disk.request(IN, 0, into=512, index=index) == IOERR
            assert disk.request(OUT, 0, b"y" * 512, index=index) == IOERR
            assert disk.request(FLUSH, index=index) == IOERR
        assert lose(disk), "twice is once"
        disk.rig.write(0x70, 0)
        disk.start()  # a driver that comes back
        assert disk.request(IN, 0, into=512) == IOERR
        disk.close()
        assert store.calls == calls


def test_disk_that_no_driver_has_is_lost_in_peace() -> None:
    store = StubStore()
    with stub_disk(store) as disk:
        assert lose(disk)
        disk.start()
        assert disk.request(IN, 0, into=512) == IOERR


def test_disk_lost_while_kicks_come_from_many_threads_answers_each_request_once() -> None:
    with stub_disk(StubStore(), queues=2, workers=4) as disk:
        disk.start()
        begun = threading.Event()

        def work(index: int) -> list[int]:
            found = []
            for turn in range(200):
                i = index * 4 + turn % 4
                disk.submit(OUT, i, b"z" * 512, i=i, index=index)
                disk.rig.wait_used(index)
                found.append(disk.status(i))
                if turn == 20:
                    begun.set()
            return found

        results: list[list[int]] = [[], []]
        threads = [threading.Thread(target=lambda n=n: results.__setitem__(n, work(n))) for n in range(2)]
        for thread in threads:
            thread.start()
        assert begun.wait(60)
        assert lose(disk)
        for thread in threads:
            thread.join(60)
        for found in results:
            assert len(found) == 200
            assert found == sorted(found), "fails from one moment on"
            assert found[-1] == IOERR
