# SPDX-License-Identifier: MIT
"""Durability, failures of the store, and the end of a disk under load."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
from blk_rig import FLUSH, IN, IOERR, OK, OUT, UNTOUCHED, Gate, StubStore, file_disk, opened, stub_disk
from split_driver import wait_for


def test_flush_is_acknowledged_only_when_the_store_has_flushed() -> None:
    store = StubStore()
    gate = Gate(store, "flush")
    with stub_disk(store) as disk, opened(gate):
        disk.start()
        assert disk.request(OUT, 0, b"a" * 512) == OK
        disk.submit(FLUSH, i=1)
        wait_for(lambda: gate.arrived, "the flush")
        assert disk.rig.poll_used() is None
        assert disk.status(1) == UNTOUCHED
        gate.open.set()
        disk.rig.wait_used()
        assert disk.status(1) == OK
        assert store.stable[:512] == b"a" * 512


def test_flush_covers_every_write_acknowledged_before_it() -> None:
    store = StubStore()
    with stub_disk(store, workers=4) as disk:
        disk.start()
        for round_ in range(20):
            marks = [bytes([round_ * 8 + i + 1]) * 512 for i in range(8)]
            for i, mark in enumerate(marks):
                disk.submit(OUT, 8 * round_ + i, mark, i=i)
            for _ in marks:
                disk.rig.wait_used()
            disk.submit(FLUSH, i=9)
            disk.submit(OUT, 1024, b"later" + bytes(507), i=10)
            disk.rig.wait_used()
            disk.rig.wait_used()
            assert disk.status(9) == OK
            begin = 8 * round_ * 512
            assert bytes(store.stable[begin : begin + 8 * 512]) == b"".join(marks)


def test_slow_read_does_not_hold_up_others() -> None:
    store = StubStore()
    gate = Gate(store)
    held = threading.Event()

    def before(op: str, offset: int) -> int:
        if (op, offset) == ("read", 0):
            held.set()
            gate.open.wait(60)
        return 0

    store.before = before
    with stub_disk(store, queues=2) as disk, opened(gate):
        disk.start()
        disk.submit(IN, 0, into=512, i=0)
        wait_for(held.is_set, "the slow read")
        disk.submit(IN, 1, into=512, i=1)
        disk.submit(IN, 2, into=512, i=2, index=1)
        disk.rig.wait_used(0)
        disk.rig.wait_used(1)
        assert (disk.status(0), disk.status(1), disk.status(2)) == (UNTOUCHED, OK, OK)
        gate.open.set()
        disk.rig.wait_used(0)
        assert disk.status(0) == OK


def test_full_ring_of_blocking_reads_is_answered_whole() -> None:
    store = StubStore()
    gate = Gate(store, "read")
    with stub_disk(store, workers=2) as disk, opened(gate):
        disk.start()
        for i in range(30):
            disk.submit(IN, i, into=512, i=i)
        assert disk.rig.poll_used() is None
        gate.open.set()
        for _ in range(30):
            disk.rig.wait_used()
        assert [disk.status(i) for i in range(30)] == [OK] * 30
        assert disk.counters.deferred == 30


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_store_error_reaches_the_guest_once_logged_and_nothing_stops(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = StubStore()
    store.before = lambda op, _offset: -code if op == "write" else 0
    with stub_disk(store) as disk:
        disk.start()
        for _ in range(3):
            assert disk.request(OUT, 0, bytes(512)) == IOERR
        assert disk.request(IN, 0, into=512) == OK
        assert disk.request(FLUSH) == OK
        assert disk.counters.errors == 3
        disk.rig.host.drain_log()
    assert len([r for r in caplog.records if os.strerror(code) in r.message]) == 1


@pytest.mark.host("mounting a tmpfs")
def test_file_that_reached_its_limit_gives_io_errors_and_goes_on(tmp_path: Path) -> None:
    """A real ENOSPC: a full tmpfs."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        image = mount / "disk.img"
        with image.open("wb") as file:
            file.truncate(1 << 20)
        with file_disk(image) as disk:
            disk.start()
            data = os.urandom(64 << 10)
            results = [disk.request(OUT, i * 128, data) for i in range(16)]
            assert results[0] == OK
            assert results[-1] == IOERR
            assert disk.request(FLUSH) == OK
            assert disk.read(0, 64 << 10) == data
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_failed_flush_makes_every_later_flush_fail(tmp_path: Path) -> None:
    """Linux forgets a lost page after one report; we do not. A pipe's fdatasync always fails."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    with file_disk(image) as disk:
        disk.start()
        assert disk.request(FLUSH) == OK
        # Put something that cannot be synced behind the store's descriptor, then the file back.
        fd = next(int(link.name) for link in Path("/proc/self/fd").iterdir() if points_at(link, image))
        saved = os.dup(fd)
        read_end, write_end = os.pipe()
        os.dup2(write_end, fd, inheritable=False)
        assert disk.request(FLUSH) == IOERR
        os.dup2(saved, fd, inheritable=False)
        assert disk.request(FLUSH) == IOERR
        assert disk.request(IN, 0, into=512) == OK
        for each in (saved, read_end, write_end):
            os.close(each)


def points_at(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except OSError:
        return False


@pytest.mark.parametrize("how", ["status", "queue", "detach"])
def test_reset_under_load_waits_for_what_runs_and_drops_the_rest(how: str) -> None:
    store = StubStore()
    gate = Gate(store, "read")
    store.volatile[:] = b"\x55" * len(store.volatile)
    with stub_disk(store, workers=2) as disk, opened(gate):
        disk.start()
        for i in range(20):
            disk.submit(IN, i, into=512, i=i)
        wait_for(lambda: gate.arrived == 2, "both workers")

        def end() -> None:
            if how == "status":
                disk.rig.write(0x70, 0)
            elif how == "queue":
                disk.rig.write(0x30, 0)
                disk.rig.write(0xC0, 1)
            else:
                disk.rig.close()

        ending = threading.Thread(target=end)
        ending.start()
        ending.join(0.2)
        assert ending.is_alive(), "reset returned while a worker may write guest memory"
        gate.open.set()
        ending.join(60)
        assert not ending.is_alive()
        # From now on guest memory is the guest's.
        for i in range(20):
            disk.rig.memory.write(disk.place(i) + 0x1000, b"\xaa" * 512)
        if how == "status":
            disk.start()
            assert disk.request(IN, 0, into=512) == OK
        for i in range(1, 20):
            assert disk.data(512, i) == b"\xaa" * 512
            assert disk.status(i) == UNTOUCHED
        assert len([call for call in store.calls if call[0] == "read"]) == 2 + (how == "status")


def test_queue_reset_leaves_other_queues_running() -> None:
    with stub_disk(StubStore(), queues=2) as disk:
        disk.start()
        disk.rig.write(0x30, 0)
        disk.rig.write(0xC0, 1)
        disk.submit(IN, 0, into=512, i=0, index=0)
        assert disk.request(IN, 0, into=512, index=1) == OK
        assert disk.rig.used_index(0) == 0
        disk.rig.queues[0] = disk.rig.queue(0, 64)
        assert disk.request(IN, 3, into=512, index=0) == OK


def test_close_under_load_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(8 << 20))
    acknowledged = set()
    with file_disk(image, workers=4) as disk:
        disk.start()
        for i in range(24):
            disk.submit(OUT, i * 256, bytes([i + 1]) * (128 << 10), i=i)
        for _ in range(6):
            acknowledged.add(disk.rig.wait_used()[0])
        disk.close()
        while (used := disk.rig.poll_used()) is not None:
            acknowledged.add(used[0])
    content = image.read_bytes()
    for head in acknowledged:
        i = head // 3
        assert content[i * (128 << 10) :][: 128 << 10] == bytes([i + 1]) * (128 << 10)
    assert len(acknowledged) >= 6


def test_close_flushes_the_store() -> None:
    store = StubStore()
    with stub_disk(store) as disk:
        disk.start()
        assert disk.request(OUT, 0, b"z" * 512) == OK
    assert store.stable[:512] == b"z" * 512


def test_kicks_from_many_threads_lose_nothing(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(1 << 20))
    with file_disk(image, queues=4, inline_bytes=64 << 10) as disk:
        disk.start()
        failures: list[str] = []

        def work(index: int) -> None:
            for n in range(150):
                disk.submit(IN, index * 16 + n % 16, into=4096, i=index, index=index)
                try:
                    disk.rig.wait_used(index)
                except AssertionError as error:
                    failures.append(str(error))
                    return

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert disk.counters.reads == 600
