# SPDX-License-Identifier: MIT
"""What goes between the virtio-power device and its driver, as data; everything is little-endian.

The specification's tables and the Linux driver's header are printed from here, see
:mod:`vdesktop_core.devices.power.documents`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, NamedTuple, Self

#: "Use 65535 and work backwards" (virtio 1.4 §5), until the device has a number of its own.
VIRTIO_ID = 0xFFFF
#: Revision of all structures: raised when one grows.
REVISION = 1

REQUEST_QUEUE, EVENT_QUEUE = 0, 1
#: The largest request, in bytes, header included.
REQUEST_MAX = 4096
#: The longest text of a crash report that is kept, in bytes.
CRASH_TEXT_MAX = 512


class Code(enum.IntEnum):
    """A number with a meaning."""

    summary: str

    def __new__(cls, value: int, summary: str = "") -> Self:
        """Make a member of a value and one line about it."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.summary = summary
        return member


class Feature(Code):
    """Feature bits: numbers."""

    SLOTS = 0, "devices are plugged and unplugged while the machine runs"
    CPUS = 1, "CPUs are brought up and down on the host's request"
    SUSPEND = 2, "the host may hint that the guest should suspend"
    EMERGENCY = 3, "the field `emergency` of the configuration can be written"


class Emergency(Code):
    """What a driver writes to the field ``emergency``."""

    SHUTDOWN = 1, "power the machine off"
    RESET = 2, "reset the machine"
    CRASH = 3, "the guest's operating system has crashed"


class RequestType(Code):
    """What a driver asks for."""

    MACHINE = 0x01, "describe the machine"
    REGIONS = 0x02, "list RAM banks, the interrupt controller's registers and other address ranges"
    CPUS = 0x03, "list CPUs"
    SLOTS = 0x04, "list slots"
    SHUTDOWN = 0x10, "power the machine off"
    RESET = 0x11, "reset the machine"
    CRASH = 0x12, "report that the guest's operating system has crashed"
    ACKNOWLEDGE = 0x20, "answer a request of the host's"
    RESET_SLOT = 0x30, "bring a slot's device to its state at power-on"
    CPU_STATE = 0x40, "tell that a CPU went online or offline"


class Status(Code):
    """How a request ended."""

    OK = 0, "done"
    UNSUPPORTED = 1, "unknown type, or one of a feature that was not negotiated"
    INVALID = 2, "wrong size, or a field out of range"
    ABSENT = 3, "no such slot, CPU or request of the host's (any more)"
    NO_SPACE = 4, "the reply does not fit into the device-writable part"
    FAILED = 5, "the device could not do it"


class EventKind(Code):
    """What an event is about."""

    MACHINE = 1, "the host requests something of the whole machine; `state` is an action"
    SLOT = 2, "the state of slot `index` changed"
    CPU = 3, "the host requests that CPU `index` become `state`"


class Action(Code):
    """States of an event of kind MACHINE."""

    SHUTDOWN = 1, "shut down in an orderly way, and power off"
    RESET = 2, "shut down in an orderly way, and reset"
    SUSPEND = 3, "suspend, if convenient"


class SlotState(Code):
    """States of a slot."""

    EMPTY = 0, "no device"
    FILLED = 1, "a device"
    EJECTING = 2, "a device, which the host requests the driver to let go of"
    LOST = 3, "a device that has nothing behind it any more, and fails what needs it"


class CpuState(Code):
    """States of a CPU."""

    ABSENT = 0, "not plugged in"
    OFFLINE = 1, "plugged in; the guest does not use it"
    ONLINE = 2, "in use"


class Verdict(Code):
    """A driver's answer to a request of the host's."""

    ACCEPTED = 1, "the guest is at it"
    DONE = 2, "the guest did it"
    REFUSED = 3, "the guest will not, or cannot; `reason` says why"


class Reason(Code):
    """Why a driver refused."""

    UNSPECIFIED = 0, "not said"
    BUSY = 1, "in use"
    UNSUPPORTED = 2, "the guest cannot do such a thing"
    FAILED = 3, "the guest tried, and failed"
    ABSENT = 4, "the guest knows no such device or CPU"


class RegionKind(Code):
    """What an address range is."""

    RAM = 1, "a RAM bank"
    INTERRUPT_CONTROLLER = 2, "registers of the interrupt controller"
    SLOTS = 3, "the slots"
    APERTURE = 4, "shared memory of devices, and the boot framebuffer"


class Machine(Code):
    """Architectures, by their ELF machine numbers."""

    X86_64 = 62, "x86_64"
    AARCH64 = 183, "aarch64"
    RISCV64 = 243, "riscv64"


class InterruptController(Code):
    """Kinds of interrupt controller."""

    IOAPIC = 1, "local APICs and an I/O APIC"
    GICV2 = 2, "GICv2"
    GICV3 = 3, "GICv3"
    PLIC = 4, "PLIC"


class Timer(Code):
    """Kinds of timer."""

    APIC = 1, "TSC and local APIC timer"
    GENERIC = 2, "the Arm generic timer"
    SBI = 3, "the RISC-V `time` CSR, with SBI TIME or Sstc"


class Field(NamedTuple):
    """A field: ``type`` is ``le16``, ``le32``, ``le64`` or ``u8[N]``, bytes of text padded with zeros."""

    type: str
    name: str
    summary: str


_FORMATS = {"le16": "H", "le32": "I", "le64": "Q"}


def field_format(field: Field) -> str:
    """Return a field's :mod:`struct` format, without byte order."""
    return _FORMATS.get(field.type) or f"{int(field.type[3:-1])}s"


class Layout:
    """A structure: naturally aligned fields without padding.

    Attributes:
        name: the C structure's name without its prefix.
        size: in bytes.
    """

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        self._names = tuple(field.name for field in fields)
        self._struct = struct.Struct("<" + "".join(map(field_format, fields)))
        self.size = self._struct.size

    def pack(self, **values: int | bytes) -> bytes:
        """Return the bytes; a field that is not given is 0, text is cut to its field."""
        blanks = (b"" if field.type.startswith("u8") else 0 for field in self.fields)
        filled = dict(zip(self._names, blanks, strict=True)) | values
        return self._struct.pack(*filled.values())

    def unpack(self, data: bytes) -> dict[str, Any]:
        """Return the fields of the first ``size`` bytes."""
        return dict(zip(self._names, self._struct.unpack_from(data), strict=True))


CONFIG = Layout(
    "config",
    Field("le16", "revision", "of all structures; 1 here"),
    Field("le16", "n_slots", "number of slots, empty ones too"),
    Field("le32", "n_cpus", "number of CPUs, absent ones too"),
    Field("le32", "generation", "changes whenever a list would"),
    Field("le32", "emergency", "reads as 0; written by the driver"),
)
REQUEST_HEADER = Layout(
    "request",
    Field("le16", "type", "of the request"),
    Field("le16", "flags", "0"),
    Field("le32", "size", "of the whole request in bytes, this header included"),
)
REPLY_HEADER = Layout(
    "reply",
    Field("le16", "status", "how it ended"),
    Field("le16", "flags", "0"),
    Field("le32", "size", "of the whole reply in bytes, this header included"),
    Field("le32", "generation", "the lists' generation"),
    Field("le32", "reserved", "0"),
)
MACHINE = Layout(
    "machine",
    Field("le32", "arch", "ELF machine number"),
    Field("le32", "interrupt_controller", "kind of interrupt controller"),
    Field("le32", "timer", "kind of timer"),
    Field("le32", "n_regions", "number of address ranges"),
    Field("le64", "timer_hz", "ticks of the timer a second"),
    Field("u8[64]", "name", "of the machine, UTF-8"),
)
RANGE = Layout(
    "range",
    Field("le32", "first", "index of the first entry wanted"),
    Field("le32", "count", "number of entries wanted at most"),
)
LIST = Layout(
    "list",
    Field("le32", "total", "number of entries that there are"),
    Field("le32", "first", "index of the first entry that follows"),
    Field("le32", "count", "number of entries that follow"),
    Field("le32", "entry_size", "from one entry to the next, in bytes"),
)
REGION = Layout(
    "region",
    Field("le32", "kind", "what it is"),
    Field("le32", "reserved", "0"),
    Field("le64", "base", "guest-physical address"),
    Field("le64", "size", "in bytes"),
    Field("u8[16]", "name", "`ram0`, `gicd`, `plic` …"),
)
CPU = Layout(
    "cpu",
    Field("le32", "index", "number of the CPU"),
    Field("le32", "state", "of the CPU"),
    Field("le64", "hardware_id", "APIC id, MPIDR affinity, hart id"),
)
SLOT = Layout(
    "slot",
    Field("le32", "index", "number of the slot"),
    Field("le32", "device_id", "virtio device ID; 0: empty"),
    Field("le32", "state", "of the slot"),
    Field("le32", "generation", "of the slot: another one means another device"),
    Field("le64", "base", "guest-physical address of its registers"),
    Field("le32", "line", "its interrupt, as the controller numbers it"),
    Field("le16", "version", "of its virtio-mmio registers; 2 here"),
    Field("le16", "reserved", "0"),
    Field("u8[32]", "name", "of the device, UTF-8"),
)
CRASH = Layout(
    "crash",
    Field("le32", "text_size", "length of the text that follows, in bytes; UTF-8"),
    Field("le32", "reserved", "0"),
)
ACKNOWLEDGE = Layout(
    "acknowledge",
    Field("le32", "sequence", "of the event"),
    Field("le32", "verdict", "the answer"),
    Field("le32", "reason", "why it was refused"),
    Field("le32", "reserved", "0"),
)
RESET_SLOT = Layout(
    "reset_slot",
    Field("le32", "slot", "number of the slot"),
    Field("le32", "generation", "of the slot"),
)
CPU_STATE = Layout(
    "cpu_state",
    Field("le32", "cpu", "number of the CPU"),
    Field("le32", "state", "OFFLINE or ONLINE"),
)
EVENT = Layout(
    "event",
    Field("le16", "kind", "what it is about"),
    Field("le16", "flags", "0"),
    Field("le32", "size", "of the event in bytes"),
    Field("le32", "sequence", "to acknowledge it with; 0: nothing to acknowledge"),
    Field("le32", "index", "number of the slot or CPU"),
    Field("le32", "state", "of the slot, wanted of the CPU, or an action"),
    Field("le32", "generation", "of the slot"),
    Field("le32", "timeout_ms", "how long the host waits for an answer"),
    Field("le32", "reserved", "0"),
)

#: Payloads by request type; None: there is none.
PAYLOADS: dict[RequestType, Layout | None] = {
    RequestType.MACHINE: None,
    RequestType.REGIONS: RANGE,
    RequestType.CPUS: RANGE,
    RequestType.SLOTS: RANGE,
    RequestType.SHUTDOWN: None,
    RequestType.RESET: None,
    RequestType.CRASH: CRASH,
    RequestType.ACKNOWLEDGE: ACKNOWLEDGE,
    RequestType.RESET_SLOT: RESET_SLOT,
    RequestType.CPU_STATE: CPU_STATE,
}
#: Features that a request type belongs to.
NEEDS = {RequestType.RESET_SLOT: Feature.SLOTS, RequestType.CPU_STATE: Feature.CPUS}


class RefusedError(Exception):
    """A request that is answered with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.summary)
        self.status = status


class Request(NamedTuple):
    """A request whose sizes were checked. ``text`` is what follows the payload's structure."""

    type: RequestType
    fields: dict[str, Any]
    text: bytes


def parse_request(data: bytes, features: int) -> Request:
    """Read a request from the device-readable part of a chain, of at least a header.

    Args:
        data: at most :data:`REQUEST_MAX` bytes of it.
        features: those that were negotiated, as a mask.

    Raises:
        RefusedError: the sizes do not fit, or the type is unknown.
    """
    header = REQUEST_HEADER.unpack(data)
    size = header["size"]
    if not REQUEST_HEADER.size <= size <= min(len(data), REQUEST_MAX):
        raise RefusedError(Status.INVALID)
    try:
        kind = RequestType(header["type"])
    except ValueError as error:
        raise RefusedError(Status.UNSUPPORTED) from error
    if kind in NEEDS and not features >> NEEDS[kind] & 1:
        raise RefusedError(Status.UNSUPPORTED)
    layout = PAYLOADS[kind]
    payload = data[REQUEST_HEADER.size : size]
    if layout is None:
        return Request(kind, {}, b"")
    if len(payload) < layout.size:
        raise RefusedError(Status.INVALID)
    # A later revision's longer structure begins with this one: what follows it is passed over.
    return Request(kind, layout.unpack(payload), payload[layout.size :])


def reply(status: Status, generation: int, payload: bytes = b"") -> bytes:
    """Return a reply's bytes."""
    size = REPLY_HEADER.size + len(payload)
    return REPLY_HEADER.pack(status=status, size=size, generation=generation) + payload
