# SPDX-License-Identifier: MIT
"""The 16550: what Linux's 8250 driver tries on it, and what a slow reader does not do to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from console_rig import pipe, read_all
from split_driver import wait_for

from vdesktop_core._native import ffi
from vdesktop_core.devices.uart import Uart
from vdesktop_core.host import Host
from vdesktop_core.iothread import IoThread

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 2, 3, 4, 5, 6, 7


class Board:
    """A UART with pipes, and its interrupt line."""

    def __init__(self) -> None:
        self.host = Host()
        self.thread = IoThread(self.host.native, "test-io")
        self.guest_in, self.keyboard = pipe()
        self.screen, self.guest_out = pipe()
        self.level = False
        self._set = ffi.callback("void(void *, bool)", self._irq)
        self._vd_irq = ffi.new("struct vd_irq *", {"set": self._set})
        irq = int(ffi.cast("uintptr_t", self._vd_irq))
        self.uart = Uart(self.host.native, self.thread.native, irq, self.guest_in, self.guest_out)
        self.io = ffi.cast("struct vd_io *", self.uart.io)

    def _irq(self, _: object, level: bool) -> None:
        self.level = bool(level)

    def read(self, register: int, width: int = 1) -> int:
        return int(self.io.read(self.io.opaque, register, width))

    def write(self, register: int, value: int, width: int = 1) -> None:
        self.io.write(self.io.opaque, register, width, value)

    def free(self) -> None:
        self.uart.close()
        self.uart.close()
        self.thread.close()
        self.host.close()
        for fd in (self.guest_in, self.keyboard, self.screen, self.guest_out):
            os.close(fd)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.free()


def test_output_reaches_the_descriptor_in_order(board: Board) -> None:
    for byte in b"Booting Linux":
        assert board.read(LSR) & 0x60 == 0x60
        board.write(DATA, byte)
    assert read_all(board.screen, 13) == b"Booting Linux"


def test_linux_autoconfig_finds_a_16550a(board: Board) -> None:
    board.write(IER, 0)
    board.write(IER, 0x0F)
    assert board.read(IER) == 0x0F
    board.write(IER, 0xFF)
    assert board.read(IER) == 0x0F  # no XScale UUE bit
    board.write(IER, 0)
    board.write(MCR, 0x10 | 0x0A)
    assert board.read(MSR) & 0xF0 == 0x90
    board.write(MCR, 0)
    board.write(LCR, 0xBF)
    assert board.read(IIR) != 0  # no 16650
    board.write(LCR, 0)
    board.write(FCR, 1)
    assert board.read(IIR) >> 6 == 3
    board.write(SCR, 0x5A)
    assert board.read(SCR) == 0x5A


def test_loopback_gives_back_what_is_sent_and_the_modem_lines(board: Board) -> None:
    board.write(MCR, 0x10)
    for byte in (0x00, 0xA5, 0xFF):
        board.write(DATA, byte)
        assert board.read(LSR) & 1
        assert board.read(DATA) == byte
    for bit, line in ((0x02, 0x10), (0x01, 0x20), (0x04, 0x40), (0x08, 0x80)):
        board.write(MCR, 0x10 | bit)
        assert board.read(MSR) & 0xF0 == line
    board.write(MCR, 0)
    with pytest.raises(BlockingIOError):
        os.read(board.screen, 1)


def test_transmit_interrupt_comes_when_enabled_and_goes_when_read(board: Board) -> None:
    assert not board.level
    board.write(IER, 2)
    assert board.level
    assert board.read(IIR) & 0x0F == 2
    assert not board.level
    assert board.read(IIR) & 0x0F == 1
    board.write(DATA, 65)
    assert board.level
    board.write(IER, 0)
    assert not board.level


def test_receive_interrupt_lasts_until_all_is_read(board: Board) -> None:
    board.write(FCR, 1)
    board.write(IER, 1)
    os.write(board.keyboard, b"hi")
    wait_for(lambda: board.level, "the interrupt")
    assert board.read(IIR) & 0x0F in (4, 0x0C)
    assert board.read(DATA) == ord("h")
    wait_for(lambda: board.read(LSR) & 1, "the second byte")
    assert board.read(DATA) == ord("i")
    assert not board.level
    assert board.read(LSR) & 1 == 0


@pytest.mark.parametrize("fifo", [0, 1])
def test_input_longer_than_the_fifo_waits_and_none_is_lost(board: Board, fifo: int) -> None:
    board.write(FCR, fifo)
    os.write(board.keyboard, bytes(range(200)))
    got = bytearray()
    while len(got) < 200:
        wait_for(lambda: board.read(LSR) & 1, "a byte")
        got.append(board.read(DATA))
    assert got == bytes(range(200))
    assert board.read(LSR) & 2 == 0


def test_slow_reader_never_blocks_the_guest_and_loss_is_counted(board: Board) -> None:
    total = 300 << 10
    for _ in range(total):
        board.write(DATA, 0x58)
    counters = board.uart.counters()
    assert counters["tx_dropped_bytes"] > 0
    kept = total - counters["tx_dropped_bytes"]
    assert read_all(board.screen, kept) == b"X" * kept


def test_divisor_latch_hides_data_and_interrupt_enable(board: Board) -> None:
    board.write(LCR, 0x80)
    board.write(DATA, 0x34)
    board.write(IER, 0x12)
    assert (board.read(DATA), board.read(IER)) == (0x34, 0x12)
    board.write(LCR, 3)
    assert board.read(IER) == 0
    with pytest.raises(BlockingIOError):
        os.read(board.screen, 1)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("offset", [*range(8), 8, 100, 2**32, 2**64 - 1])
def test_access_of_any_width_and_place_is_survived(board: Board, offset: int, width: int) -> None:
    board.write(offset, 2**64 - 1, width)
    assert 0 <= board.read(offset, width) < 1 << 8 * width
    board.write(LCR, 3)
    board.write(MCR, 0)
    board.write(SCR, 7)
    assert board.read(SCR) == 7


def test_end_of_input_leaves_output_alive(board: Board) -> None:
    os.close(board.keyboard)
    board.keyboard = os.open("/dev/null", os.O_RDONLY)
    board.write(DATA, 65)
    assert read_all(board.screen, 1) == b"A"
