# SPDX-License-Identifier: MIT
"""virtio-power's messages: sizes, alignment, and the parsing of whatever a guest sends."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.wire import RefusedError, RequestType, Status

LAYOUTS = [value for value in vars(wire).values() if isinstance(value, wire.Layout)]
ALL_FEATURES = (1 << 64) - 1
WIDTHS = {"le16": 2, "le32": 4, "le64": 8}


def request(kind: int, payload: bytes = b"", size: int | None = None) -> bytes:
    size = wire.REQUEST_HEADER.size + len(payload) if size is None else size
    return wire.REQUEST_HEADER.pack(type=kind, size=size) + payload


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_power_layout_fields_are_naturally_aligned_in_a_multiple_of_eight_bytes(layout: wire.Layout) -> None:
    offset = 0
    for field in layout.fields:
        width = WIDTHS.get(field.type, 1)
        assert offset % width == 0, field.name
        offset += struct.calcsize("<" + wire.field_format(field))
    assert offset == layout.size
    assert layout.size % 8 == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(data=st.data())
def test_power_layout_unpacks_what_it_packed(layout: wire.Layout, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size + 9))
    assert layout.pack(**layout.unpack(raw)) == raw[: layout.size]


@given(data=st.binary(min_size=8, max_size=200), features=st.integers(0, 15))
def test_power_request_of_any_bytes_is_parsed_or_refused(data: bytes, features: int) -> None:
    try:
        parsed = wire.parse_request(data, features)
    except RefusedError:
        return
    layout = wire.PAYLOADS[parsed.type]
    size = struct.unpack_from("<I", data, 4)[0]
    assert size <= len(data)
    assert len(parsed.text) == (size - 8 - layout.size if layout else 0)


@given(kind=st.sampled_from(RequestType), tail=st.binary(max_size=40), data=st.data())
def test_power_request_of_a_later_revision_is_read_as_far_as_it_is_known(
    kind: RequestType, tail: bytes, data: st.DataObject
) -> None:
    layout = wire.PAYLOADS[kind]
    payload = data.draw(st.binary(min_size=layout.size, max_size=layout.size)) if layout else b""
    parsed = wire.parse_request(request(kind, payload + tail), ALL_FEATURES)
    assert parsed.type is kind
    assert parsed.fields == (layout.unpack(payload) if layout else {})


@pytest.mark.parametrize("kind", [k for k, layout in wire.PAYLOADS.items() if layout])
def test_power_request_of_a_byte_too_few_is_invalid(kind: RequestType) -> None:
    layout = wire.PAYLOADS[kind]
    assert layout is not None
    with pytest.raises(RefusedError) as refused:
        wire.parse_request(request(kind, bytes(layout.size - 1)), ALL_FEATURES)
    assert refused.value.status is Status.INVALID


@pytest.mark.parametrize("size", [0, 7, 9, 1 << 31, (1 << 32) - 1])
def test_power_request_of_a_size_that_is_not_there_is_invalid(size: int) -> None:
    with pytest.raises(RefusedError) as refused:
        wire.parse_request(request(RequestType.MACHINE, size=size), ALL_FEATURES)
    assert refused.value.status is Status.INVALID


@pytest.mark.parametrize("kind", wire.NEEDS)
def test_power_request_of_a_feature_not_negotiated_is_unsupported(kind: RequestType) -> None:
    features = ALL_FEATURES & ~(1 << wire.NEEDS[kind])
    with pytest.raises(RefusedError) as refused:
        wire.parse_request(request(kind, bytes(64)), features)
    assert refused.value.status is Status.UNSUPPORTED


def test_power_request_of_an_unknown_type_is_unsupported() -> None:
    for kind in set(range(0x100)) - set(RequestType):
        with pytest.raises(RefusedError) as refused:
            wire.parse_request(request(kind), ALL_FEATURES)
        assert refused.value.status is Status.UNSUPPORTED


def test_power_every_request_type_has_a_payload_and_features_that_exist() -> None:
    assert set(wire.PAYLOADS) == set(RequestType)
    assert set(wire.NEEDS.values()) <= set(wire.Feature)
