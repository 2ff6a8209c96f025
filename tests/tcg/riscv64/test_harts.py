# SPDX-License-Identifier: GPL-2.0-only
"""Code that changes and page tables that change, on one and on several vCPUs.

An ordinary guest boots and soaks even where these fail: what tells is that a hart sees what another
hart wrote, through another address, or in a page table.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from assembler import addi
from bare import BareGuest
from interpreter import ALIAS, CODE, DATA, PTE, WINDOW, Kind, Op, leaf, load, results, returns

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPERATIONS = 200_000
SHOOT_DOWNS = 2_000


@pytest.fixture(params=[1, 2, 4], ids="{}-harts".format)
def guest(request: pytest.FixtureRequest) -> Iterator[BareGuest]:
    guest = BareGuest(request.param)
    yield guest
    guest.close()


def run(guest: BareGuest, harts: int, operations: Sequence[Op]) -> tuple[int, ...]:
    load(guest.view, harts, operations)
    assert guest.run().reason is ExitReason.SHUTDOWN
    return results(guest.view, len(operations))


def write_code(hart: int, address: int, value: int) -> Op:
    """Make the function at an address return a value, through the alias."""
    return Op(hart, Kind.WRITE32, address + ALIAS, addi("a0", "zero", value))


def test_alias_page_dirty_before_its_first_translation_is_tracked(guest: BareGuest) -> None:
    writer, runner = 0, guest.harts - 1
    guest.device_write(CODE, returns(1))
    operations = [
        Op(writer, Kind.WRITE32, CODE + ALIAS + 0x100, 7),
        Op(writer, Kind.WRITE32, CODE + ALIAS + 0x104, 7),
        Op(runner, Kind.EXECUTE, CODE),
        write_code(writer, CODE, 2),
        Op(runner, Kind.EXECUTE, CODE),
    ]
    values = run(guest, guest.harts, operations)
    assert (values[2], values[4]) == (1, 2)


def test_alias_write_beside_code_keeps_the_page_tracked(guest: BareGuest) -> None:
    writer, runner = 0, guest.harts - 1
    guest.device_write(CODE, returns(1))
    operations = [
        Op(runner, Kind.EXECUTE, CODE),
        Op(writer, Kind.WRITE32, CODE + ALIAS + 0x100, 9),
        write_code(writer, CODE, 3),
        Op(runner, Kind.EXECUTE, CODE),
    ]
    values = run(guest, guest.harts, operations)
    assert (values[0], values[3]) == (1, 3)


def test_alias_random_writes_and_runs_are_never_stale(guest: BareGuest) -> None:
    chance = random.Random(1)
    slots = [CODE + page * 4096 + slot * 64 for page in range(4) for slot in range(4)]
    value = {slot: number for number, slot in enumerate(slots)}
    for slot in slots:
        guest.device_write(slot, returns(value[slot]))
    operations: list[Op] = []
    expected: dict[int, int] = {}
    while len(operations) < OPERATIONS:
        slot, hart = chance.choice(slots), chance.randrange(guest.harts)
        match chance.randrange(4):
            case 0:
                value[slot] = chance.randrange(2000)
                operations.append(write_code(hart, slot, value[slot]))
                continue
            case 1:
                address = slot + ALIAS + 8 + 4 * chance.randrange(4)
                operations.append(Op(hart, Kind.WRITE32, address, chance.getrandbits(32)))
                continue
            case 2 if chance.randrange(50) == 0:
                operations.append(Op(hart, Kind.FENCE))
        expected[len(operations)] = value[slot]
        operations.append(Op(hart, Kind.EXECUTE, slot))
    values = run(guest, guest.harts, operations)
    stale = [index for index, right in expected.items() if values[index] != right]
    assert not stale, f"{len(stale)} of {len(expected)}"


def shoot_downs(*, fence: bool) -> tuple[list[Op], dict[int, int]]:
    """Hart 0 changes a mapping, again and again, and hart 1 reads through it."""
    operations: list[Op] = []
    expected: dict[int, int] = {}
    for count in range(SHOOT_DOWNS):
        page = count % 2
        operations.append(Op(0, Kind.WRITE64, PTE, leaf(DATA + 4096 * page)))
        if fence:
            operations.append(Op(0, Kind.REMOTE_FENCE, WINDOW, 1 << 1))
        expected[len(operations)] = page + 1
        operations.append(Op(1, Kind.LOAD, WINDOW))
    return operations, expected


@pytest.fixture
def pair() -> Iterator[BareGuest]:
    guest = BareGuest(2)
    guest.write(DATA, 1)
    guest.write(DATA + 4096, 2)
    yield guest
    guest.close()


def test_shoot_down_remote_fence_makes_the_other_hart_see_the_new_mapping(pair: BareGuest) -> None:
    operations, expected = shoot_downs(fence=True)
    values = run(pair, 2, operations)
    assert [values[index] for index in expected] == list(expected.values())


def test_shoot_down_without_a_fence_the_other_hart_keeps_the_old_mapping(pair: BareGuest) -> None:
    """Shows that the test above can fail: harts do cache translations."""
    operations, expected = shoot_downs(fence=False)
    values = run(pair, 2, operations)
    assert [values[index] for index in expected] != list(expected.values())
