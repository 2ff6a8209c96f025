# SPDX-License-Identifier: GPL-2.0-only
"""What the engine must get right whatever the guest does: each test fails on a naive use of the library."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pausing import seconds_across_a_pause
from x86_programs import ALIAS_PT, DATA, FUNCTION, NO_EXECUTE, RESULT, function_returning, load

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bare_metal import BareMetal


@contextmanager
def disturbance(what: Callable[[], None]) -> Iterator[None]:
    """Call something again and again on another thread."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            what()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def test_interrupted_load_is_not_executed_twice(machine: BareMetal) -> None:
    """A ring of 4096 pointers: one step too many shows as a count that disagrees with the place."""
    nodes, rounds = 4096, 60000
    for node in range(nodes):
        machine.poke(DATA + 8 * node, DATA + 8 * ((node + 1) % nodes))
    entry = load(
        machine,
        f"""start: mov $DATA, %eax; mov ${rounds * nodes // 8}, %ecx; movl $1, RESULT + 8
    again: {"mov (%rax), %rax;" * 8} dec %ecx; jnz again
        mov %rax, RESULT; power_off""",
    )
    level = False

    def toggle() -> None:
        nonlocal level
        level = not level
        machine.set_line(20, level)
        time.sleep(0.0001)

    machine.start(**entry)
    wait_for(lambda: machine.peek(RESULT + 8) == 1)
    with disturbance(toggle):
        machine.wait()
    assert machine.vm.counters()["kicks"] > 10
    assert machine.peek(RESULT) == DATA


def test_pause_and_resume_under_load_lose_nothing(machine: BareMetal) -> None:
    entry = load(
        machine,
        """start: mov $20000000, %ecx; xor %eax, %eax; movl $1, RESULT + 8
    again: add $3, %rax; mov %rax, DATA; mov DATA, %rax; dec %ecx; jnz again
        mov %rax, RESULT; power_off""",
    )
    machine.start(**entry)
    wait_for(lambda: machine.peek(RESULT + 8) == 1)
    for _ in range(100):
        machine.vm.pause()
        before = machine.peek(DATA)
        time.sleep(0.0002)
        assert machine.peek(DATA) == before, "paused, and still running"
        machine.vm.resume()
    machine.wait()
    assert machine.peek(RESULT) == 60000000


def test_clock_stands_still_while_paused(machine: BareMetal) -> None:
    entry = load(machine, "start: rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, RESULT; jmp start")
    machine.start(**entry)
    excess = seconds_across_a_pause(
        machine.vm, lambda: machine.peek(RESULT) / 1e9, lambda: machine.poke(RESULT, 0)
    )
    machine.vm.stop()
    assert excess <= 0


def test_fault_address_survives_stops(machine: BareMetal) -> None:
    """CR2 keeps its value while the vCPU is stopped and started again at other addresses."""
    entry = load(
        machine,
        """start: mov $0x123456789000, %rax; mov %rax, %cr2; xor %r9d, %r9d; mov $3000000, %ecx
        movl $1, RESULT + 8
    again: mov %cr2, %rbx; cmp %rbx, %rax; je 1f; inc %r9d
    1:  dec %ecx; jnz again; mov %r9, RESULT; power_off""",
    )
    machine.poke(RESULT, 1)
    machine.start(**entry)
    wait_for(lambda: machine.peek(RESULT + 8) == 1)

    def stop_and_go() -> None:
        machine.vm.pause()
        machine.vm.resume()

    for _ in range(200):
        stop_and_go()
    machine.wait()
    assert machine.peek(RESULT) == 0


def test_start_right_before_stop_ends(machine: BareMetal) -> None:
    entry = load(machine, "start: incl DATA; 1: jmp 1b")
    for _ in range(100):
        machine.start(**entry)
        machine.vm.stop()
    for _ in range(20):
        machine.start(**entry)
        machine.vm.pause()
        machine.vm.resume()
        machine.vm.stop()


def test_code_written_through_another_mapping_is_not_run_stale(machine: BareMetal) -> None:
    """The function is written through a mapping for data, and called at two other addresses in turn."""
    machine.poke(ALIAS_PT, FUNCTION | 3 | NO_EXECUTE)
    machine.poke(ALIAS_PT + 8, FUNCTION | 3)
    machine.write(FUNCTION, function_returning(0))
    machine.run(
        **load(
            machine,
            """start: no_execute_on; xor %ecx, %ecx; xor %r9d, %r9d
        mov $FUNCTION, %r10d; mov $(ALIAS + 4096), %r11d
    again: inc %ecx; mov %ecx, ALIAS + 1; call *%r10; cmp %eax, %ecx; je 1f; inc %r9d
    1:  inc %ecx; mov %ecx, ALIAS + 1; call *%r11; cmp %eax, %ecx; je 1f; inc %r9d
    1:  cmp $20000, %ecx; jb again; mov %r9, RESULT; mov %rcx, RESULT + 8; power_off""",
        )
    )
    assert (machine.peek(RESULT), machine.peek(RESULT + 8)) == (0, 20000)


def test_code_next_to_its_data_is_not_run_stale(machine: BareMetal) -> None:
    """Stores to a page that holds code: those to the code must count, and so must the others."""
    machine.write(FUNCTION, function_returning(0))
    machine.run(
        **load(
            machine,
            """start: xor %ecx, %ecx; xor %r9d, %r9d; mov $FUNCTION, %r11d
    again: mov %ecx, FUNCTION + 0x800; mov %ecx, FUNCTION + 1; call *%r11
        cmp %eax, %ecx; jne bad; cmp FUNCTION + 0x800, %ecx; je 1f
    bad: inc %r9d
    1:  inc %ecx; cmp $20000, %ecx; jb again; mov %r9, RESULT; power_off""",
        )
    )
    assert machine.peek(RESULT) == 0


def test_code_that_a_device_wrote_is_not_run_stale(machine: BareMetal) -> None:
    machine.write(FUNCTION, function_returning(0))
    machine.start(
        **load(
            machine,
            """start: xor %ecx, %ecx; xor %r9d, %r9d; mov $FUNCTION, %r11d
    again: call *%r11; cmp DATA, %ecx; je again
        mov DATA, %ecx; call *%r11; cmp %eax, %ecx; je 1f; inc %r9d
    1:  mov %ecx, DATA + 8; cmp $500, %ecx; jb again; mov %r9, RESULT; power_off""",
        )
    )
    for value in range(1, 501):
        machine.device_wrote(FUNCTION, function_returning(value))
        machine.poke(DATA, value, 4)
        wait_for(lambda value=value: machine.peek(DATA + 8, 4) == value)
    assert machine.wait().reason is ExitReason.SHUTDOWN
    assert machine.peek(RESULT) == 0
    assert machine.vm.counters()["dma_invalidations"] >= 400


def test_code_survives_the_translation_buffer_running_full(machine: BareMetal) -> None:
    """32 functions rewritten in turn, until the buffer was flushed a few times."""
    for index in range(32):
        machine.write(FUNCTION + 64 * index, function_returning(0) + b"\x90" * 50)
    machine.run(
        **load(
            machine,
            """start: xor %ecx, %ecx; xor %r9d, %r9d
    again: mov %ecx, %ebx; and $31, %ebx; shl $6, %ebx; lea FUNCTION(%rbx), %r11
        mov %ecx, 1(%r11); call *%r11; cmp %eax, %ecx; je 1f; inc %r9d
    1:  inc %ecx; cmp $300000, %ecx; jb again; mov %r9, RESULT; power_off""",
        )
    )
    assert machine.peek(RESULT) == 0
    assert machine.vm.counters()["translation_flushes"] > 2
