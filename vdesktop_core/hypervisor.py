# SPDX-License-Identifier: MIT
"""The contract a backend fulfils.

A backend is a plugin that returns a :class:`Hypervisor` from the hook
``vdesktop_hypervisors``. The core asks it to *probe*, and then to create a
:class:`VirtualMachine`, which the core fills with memory, interrupt lines and
MMIO ranges, gives an entry state and runs.

Native handles
    Everything on a guest's hot path is a C structure of
    ``vdesktop_core/native/include/vdesktop/abi.h``; Python only carries its
    address, as an ``int``. A handle is valid until its virtual machine is
    closed.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.memory import MemoryRegion

#: Version of this contract. A backend that was written for another one is refused.
CONTRACT_VERSION = 1


class Arch(enum.StrEnum):
    """A guest architecture, by its Linux ``uname -m`` name."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"


class Capability(enum.StrEnum):
    """What a backend can do beyond the mandatory part of the contract."""

    SMP = "smp"
    DOORBELL_FD = "doorbell-fd"  #: doorbells that signal a file descriptor (ioeventfd)
    IRQ_FD = "irq-fd"  #: interrupt lines that a file descriptor raises (irqfd)
    DIRTY_LOG = "dirty-log"
    PORT_IO = "port-io"  #: x86 port space
    #: ``map_memory`` takes memory of the host's. A backend without it has the hypervisor's
    #: memory only: ``allocate_memory``.
    HOST_MEMORY = "host-memory"
    #: The backend is an :class:`AttachingHypervisor`.
    ATTACH = "attach"


class Probe(msgspec.Struct, frozen=True):
    """What a backend found on this host. ``reason`` is one line for a person."""

    available: bool
    reason: str
    architectures: tuple[Arch, ...] = ()
    max_vcpus: int = 1
    capabilities: frozenset[Capability] = frozenset()
    #: Higher is better: ``--backend auto`` takes the best that is available.
    preference: int = 0


class VmSpec(msgspec.Struct, frozen=True):
    """What the core asks of :meth:`Hypervisor.create`."""

    arch: Arch
    vcpus: int
    name: str = "vdesktop"
    #: Backend-specific options from ``[backend.NAME]`` of the machine file.
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    #: Let guest memory be mapped once more, here or by others: a picture is shown where it lies (decision
    #: 0022). Without, a backend may take memory that the host can do better with, such as huge pages.
    share_memory: bool = True


class IrqTrigger(enum.StrEnum):
    EDGE = "edge"
    LEVEL = "level"


class InterruptController(msgspec.Struct, frozen=True):
    """How the guest finds its interrupt controller. Addresses are guest-physical, sizes in bytes.

    ``kind`` is one of ``gicv2``, ``gicv3``, ``plic``, ``ioapic``; ``regions`` maps the
    architecture's own names (``gicd``, ``gicc``, ``gicr``, ``plic``, ``lapic``,
    ``ioapic``) to (base, size).
    """

    kind: str
    regions: Mapping[str, tuple[int, int]]
    #: Line numbers ``irq_line`` accepts, as the guest's interrupt controller
    #: numbers them: SPI number (0 = INTID 32), PLIC source, or IOAPIC GSI.
    lines: range
    #: Of the virtio slots' lines; ``vd_irq`` of ``vdesktop/abi.h`` says what is called when.
    trigger: IrqTrigger = IrqTrigger.LEVEL


class Platform(msgspec.Struct, frozen=True):
    """The architecture-dependent part of the machine, which the backend supplies."""

    interrupt_controller: InterruptController
    #: Ticks a second of the guest's clock: CNTFRQ, timebase-frequency, or TSC Hz.
    timer_hz: int
    #: Hardware ids by vCPU index: MPIDR affinity, hart id, APIC id.
    cpu_ids: tuple[int, ...]
    #: ``psci-hvc``, ``psci-smc``, ``sbi`` or ``apic``: how secondary CPUs start.
    cpu_enable: str
    #: riscv ``riscv,isa`` string, arm ``compatible``; free for the architecture.
    cpu_model: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: x86: ports of power-off and reset for the FADT; see docs/spec/machine.md.
    ports: Mapping[str, int] = msgspec.field(default_factory=dict)
    #: Extra kernel command-line words this backend needs, such as a clock hint.
    append: tuple[str, ...] = ()


class EntryState(msgspec.Struct, frozen=True):
    """Register values of the boot vCPU at its first instruction.

    Names are the architecture's (``pc``, ``x0``; ``pc``, ``a0``; ``rip``, ``rsi``,
    ``cr3`` …); everything that is not named has the architecture's reset value
    or, on x86_64, the value ``docs/spec/machine.md`` gives for 64-bit entry:
    ``cs``/``ds``/``ss``/``es`` flat 64-bit from the GDT at ``gdt_base``, paging on.
    """

    registers: Mapping[str, int]


class ExitReason(enum.StrEnum):
    SHUTDOWN = "shutdown"  #: the guest powered itself off
    RESET = "reset"  #: the guest asked for a reset
    CRASH = "crash"  #: the guest cannot go on (triple fault, unhandled exit)
    ERROR = "error"  #: the backend cannot go on


class Order(enum.StrEnum):
    """What the hypervisor's own tools ask a guest for, such as ``xl shutdown``."""

    SHUTDOWN = "shutdown"  #: power off, in an orderly way
    RESET = "reset"  #: restart, in an orderly way


class VmEvent(msgspec.Struct, frozen=True):
    """Something the guest or the backend decided. ``vcpus`` have stopped by then."""

    reason: ExitReason
    detail: str = ""


@runtime_checkable
class Hypervisor(Protocol):
    """A backend. Constructing one is cheap and touches nothing."""

    name: str
    contract_version: int

    def probe(self) -> Probe:
        """Find out, by trying, what this host can do. Never raises; under 50 ms for tcg."""
        ...

    def create(self, spec: VmSpec) -> VirtualMachine:
        """Create an empty virtual machine.

        Raises:
            BackendError: one line that says what failed and what to do.
        """
        ...


@runtime_checkable
class AttachingHypervisor(Protocol):
    """A backend that can serve machines that somebody else made; with the capability ``ATTACH``."""

    def attach(self, target: str) -> AttachedMachine:
        """Become one more device model of a machine that does not run yet.

        Args:
            target: the machine's name or number, as the hypervisor's own tools have it.

        Raises:
            BackendError: there is none, or it has no interrupt lines for devices.
        """
        ...


class VirtualMachine(Protocol):
    """One virtual machine of a backend. Methods are called on one control thread only.

    Life cycle: *created* -> start -> *running* <-> pause/resume -> stop -> *created*
    -> close. A guest's reset is stop, :meth:`reset`, a new ``set_entry``, start.
    """

    def platform(self) -> Platform: ...

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Give the guest new memory, all zero, at a page-aligned address, and return how the host sees it.

        This is where RAM comes from. Whose memory it is depends on the backend: the host's, mapped
        into the guest, or the hypervisor's, mapped into this process; then ``region.fd`` is -1, no
        other process can map it, and it may go away: not before :meth:`reset`, :meth:`unmap_memory`
        or :meth:`close`, before which no virtqueue may be live. The caller closes the region, after
        the virtual machine.

        Raises:
            BackendError: the address is taken, or there is not enough memory: nothing was changed.
        """
        ...

    def map_memory(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Map host-shared memory at a page-aligned guest-physical address.

        The guest's code may run from it unless the backend is told otherwise. Raises BackendError
        without ``HOST_MEMORY``.
        """
        ...

    def unmap_memory(self, gpa: int) -> None: ...

    def written_hook(self) -> int:
        """Address of a ``struct vd_written`` to call after device writes, or 0."""
        ...

    def irq_line(self, line: int) -> int:
        """Address of a ``struct vd_irq`` for an interrupt line. The same for the same line."""
        ...

    def add_mmio(self, base: int, size: int, io: int) -> None:
        """Route guest accesses to a ``struct vd_io`` (its address; the struct outlives the VM)."""
        ...

    def remove_mmio(self, base: int) -> None: ...

    def add_pio(self, base: int, size: int, io: int) -> None:
        """As :meth:`add_mmio`, for x86 ports. Raises BackendError without ``PORT_IO``."""
        ...

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        """Have the backend signal an eventfd on a matching guest write.

        Returns False where the backend cannot (no ``DOORBELL_FD``): then the MMIO
        handler of that address is called instead, which does the same. In any state
        of the machine; kept over stop and start. ``fd`` stays the caller's, and
        open until :meth:`remove_doorbell`.
        """
        ...

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        """Take back a doorbell that :meth:`add_doorbell` took; in any state of the machine.

        Raises:
            BackendError: there is no such doorbell.
        """
        ...

    def set_entry(self, entry: EntryState) -> None: ...

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Start the vCPU threads and return at once.

        ``on_event`` is called at most once a start, on a thread of the backend's.
        """
        ...

    def pause(self) -> None:
        """Return when no vCPU executes guest code.

        The clock that the guest keeps its time by should stand still until :meth:`resume`.
        """
        ...

    def resume(self) -> None: ...

    def stop(self) -> None:
        """Return when all vCPU threads have ended; idempotent, legal in any state."""
        ...

    def reset(self) -> None:
        """Make a stopped machine as new, but for what its memory holds. No virtqueue is live.

        The core calls it before it loads a guest again. The vCPUs' registers are those of the next
        :meth:`set_entry`; a guest that was stopped and is started without it also begins there.
        """
        ...

    def dirty_log(self, gpa: int, size: int) -> Sequence[int]:
        """Page frame offsets written since the last call. Needs ``DIRTY_LOG``."""
        ...

    def dirty_hook(self) -> int:
        """Address of a ``struct vd_dirty``, the same log for the data path; 0 without ``DIRTY_LOG``."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Monotonic counters for ``--stats``: exits, interrupts, …"""
        ...

    def close(self) -> None:
        """Stop, and free everything. Idempotent."""
        ...


@runtime_checkable
class OrderedMachine(Protocol):
    """What a :class:`VirtualMachine` also is where the hypervisor's own tools reach a guest through it."""

    def on_order(self, take: Callable[[Order, bool], bool]) -> None:
        """Have a function called with what tools ask for; before ``start``, on the control thread.

        Args:
            take: called on any thread. It returns whether it takes the order: it does where the guest has
                a driver of ours that is to hear of it, and where the second argument says that nobody
                else will.
        """
        ...


class AttachedMachine(VirtualMachine, Protocol):
    """Somebody else's machine. Its life is theirs: ``start`` begins to serve, ``stop`` ends that."""

    def regions(self) -> Mapping[int, MemoryRegion]:
        """Return the memory that could be mapped, by guest-physical address; the caller closes it."""
        ...
