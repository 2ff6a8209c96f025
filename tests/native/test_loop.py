# SPDX-License-Identifier: MIT
"""The native event loop: watches, calls and posts, from any thread."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from split_driver import wait_for

from vdesktop_core._native import ffi, lib
from vdesktop_core.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = select.EPOLLIN


class Loop:
    def __init__(self, name: bytes = b"loop") -> None:
        self.host = Host()
        self.loop = lib.vd_loop_new(ffi.cast("struct vd_host *", self.host.native), name)
        assert self.loop != ffi.NULL
        self._keep: list[Any] = []

    def watcher(self, function: Any) -> Any:
        self._keep.append(ffi.callback("void(void *, uint32_t)", lambda _opaque, events: function(events)))
        return self._keep[-1]

    def job(self, function: Any) -> Any:
        self._keep.append(ffi.callback("void(void *)", lambda _opaque: function()))
        return self._keep[-1]

    def free(self) -> None:
        lib.vd_loop_free(self.loop)
        self.host.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.free()


@pytest.fixture
def event() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


def test_thread_has_its_name_and_blocks_all_signals() -> None:
    loop = Loop(b"a-name-longer-than-fifteen")
    before = set(os.listdir("/proc/self/task"))  # noqa: PTH208
    assert lib.vd_loop_start(loop.loop) == 0
    try:
        (task,) = {p.name for p in Path("/proc/self/task").iterdir()} - before
        wait_for(lambda: Path("/proc/self/task", task, "comm").read_text() == "a-name-longer-t\n", "the name")
        status = Path("/proc/self/task", task, "status").read_text()
        blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            assert blocked >> (number - 1) & 1
    finally:
        loop.free()


def test_watch_is_called_while_readable_and_not_after_removal(loop: Loop, event: int) -> None:
    seen: list[int] = []

    def on_event(events: int) -> None:
        seen.append(events)
        os.eventfd_read(event)

    assert lib.vd_loop_start(loop.loop) == 0
    assert lib.vd_loop_add(loop.loop, event, READ, loop.watcher(on_event), ffi.NULL) == 0
    os.eventfd_write(event, 1)
    wait_for(lambda: len(seen) == 1, "the event")
    assert seen[0] & READ
    assert lib.vd_loop_remove(loop.loop, event) == 0
    os.eventfd_write(event, 1)
    lib.vd_loop_call(loop.loop, loop.job(lambda: None), ffi.NULL)
    assert len(seen) == 1


def test_remove_waits_for_the_function_that_runs(loop: Loop, event: int) -> None:
    entered, leave = threading.Event(), threading.Event()
    left: list[bool] = []

    def on_event(_events: int) -> None:
        entered.set()
        leave.wait(60)
        left.append(True)

    assert lib.vd_loop_start(loop.loop) == 0
    lib.vd_loop_add(loop.loop, event, READ, loop.watcher(on_event), ffi.NULL)
    os.eventfd_write(event, 1)
    assert entered.wait(60)
    remover = threading.Thread(target=lib.vd_loop_remove, args=(loop.loop, event))
    remover.start()
    remover.join(0.1)
    assert remover.is_alive()
    leave.set()
    remover.join(60)
    assert not remover.is_alive()
    assert left == [True]


def test_watch_may_remove_itself(loop: Loop, event: int) -> None:
    results: list[int] = []

    def on_event(_events: int) -> None:
        results.append(lib.vd_loop_remove(loop.loop, event))

    assert lib.vd_loop_start(loop.loop) == 0
    lib.vd_loop_add(loop.loop, event, READ, loop.watcher(on_event), ffi.NULL)
    os.eventfd_write(event, 1)
    wait_for(lambda: results, "the event")
    lib.vd_loop_call(loop.loop, loop.job(lambda: None), ffi.NULL)
    assert results == [0]


def test_modify_turns_a_watch_off_and_on(loop: Loop, event: int) -> None:
    seen: list[int] = []

    def on_event(events: int) -> None:
        seen.append(events)
        os.eventfd_read(event)

    assert lib.vd_loop_start(loop.loop) == 0
    lib.vd_loop_add(loop.loop, event, READ, loop.watcher(on_event), ffi.NULL)
    assert lib.vd_loop_modify(loop.loop, event, 0) == 0
    os.eventfd_write(event, 1)
    lib.vd_loop_call(loop.loop, loop.job(lambda: None), ffi.NULL)
    assert not seen
    assert lib.vd_loop_modify(loop.loop, event, READ) == 0
    wait_for(lambda: seen, "the event")


def test_misuse_is_refused(loop: Loop, event: int) -> None:
    watcher = loop.watcher(lambda _events: None)
    assert lib.vd_loop_add(loop.loop, -1, READ, watcher, ffi.NULL) == -errno.EBADF
    assert lib.vd_loop_add(loop.loop, event, READ, watcher, ffi.NULL) == 0
    assert lib.vd_loop_add(loop.loop, event, READ, watcher, ffi.NULL) == -errno.EEXIST
    assert lib.vd_loop_remove(loop.loop, event) == 0
    assert lib.vd_loop_remove(loop.loop, event) == -errno.ENOENT
    assert lib.vd_loop_modify(loop.loop, event, READ) == -errno.ENOENT
    assert lib.vd_loop_start(loop.loop) == 0
    assert lib.vd_loop_start(loop.loop) == -errno.EALREADY


def test_more_watches_than_the_first_table_holds(loop: Loop) -> None:
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(50)]
    seen: set[int] = set()

    def watcher(fd: int) -> Any:
        def on_event(_events: int) -> None:
            os.eventfd_read(fd)
            seen.add(fd)

        return loop.watcher(on_event)

    assert lib.vd_loop_start(loop.loop) == 0
    for fd in fds:
        assert lib.vd_loop_add(loop.loop, fd, READ, watcher(fd), ffi.NULL) == 0
    for fd in fds:
        os.eventfd_write(fd, 1)
    wait_for(lambda: len(seen) == 50, "all events")
    for fd in fds:
        assert lib.vd_loop_remove(loop.loop, fd) == 0
        os.close(fd)


def test_call_runs_on_the_thread_and_returns_after_it(loop: Loop) -> None:
    ran: list[int] = []
    job = loop.job(lambda: ran.append(threading.get_native_id()))
    lib.vd_loop_call(loop.loop, job, ffi.NULL)
    assert ran == [threading.get_native_id()], "no thread yet: on the caller's"
    assert lib.vd_loop_start(loop.loop) == 0
    lib.vd_loop_call(loop.loop, job, ffi.NULL)
    assert len(ran) == 2
    assert ran[1] != threading.get_native_id()


def test_posts_run_in_order_and_before_the_stop(loop: Loop) -> None:
    ran: list[int] = []
    for i in range(5):
        assert lib.vd_loop_post(loop.loop, loop.job(lambda i=i: ran.append(i)), ffi.NULL) == 0
    assert lib.vd_loop_start(loop.loop) == 0
    for i in range(5, 100):
        assert lib.vd_loop_post(loop.loop, loop.job(lambda i=i: ran.append(i)), ffi.NULL) == 0
    lib.vd_loop_stop(loop.loop)
    assert ran == list(range(100))


def test_stopped_loop_starts_again_with_its_watches(loop: Loop, event: int) -> None:
    seen: list[int] = []

    def on_event(events: int) -> None:
        os.eventfd_read(event)
        seen.append(events)

    lib.vd_loop_add(loop.loop, event, READ, loop.watcher(on_event), ffi.NULL)
    for n in range(1, 4):
        assert lib.vd_loop_start(loop.loop) == 0
        os.eventfd_write(event, 1)
        wait_for(lambda n=n: len(seen) == n, "the event")
        lib.vd_loop_stop(loop.loop)
        lib.vd_loop_stop(loop.loop)
