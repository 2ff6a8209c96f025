# SPDX-License-Identifier: MIT
"""The control socket's lines."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdesktop_core.control import protocol, server

DOCUMENTS = (
    b"",
    b"{}",
    b"null",
    b"[]",
    b'{"id":1}',
    b'{"do":"status"}',
    b'{"id":-1,"do":"status"}',
    b'{"id":9007199254740992,"do":"status"}',
    b'{"id":1.5,"do":"status"}',
    b'{"id":"1","do":"status"}',
    b'{"id":1,"do":"nonsense"}',
    b'{"id":1,"do":null}',
    b'{"id":1,"do":"status","more":1}',
    b'{"id":1,"do":"shutdown","timeout":0}',
    b'{"id":1,"do":"shutdown","timeout":-1}',
    b'{"id":1,"do":"shutdown","timeout":1e300}',
    b'{"id":1,"do":"shutdown","timeout":NaN}',
    b'{"id":1,"do":"unplug"}',
    b'{"id":1,"do":"unplug","slot":-1}',
    b'{"id":1,"do":"unplug","slot":256}',
    b'{"id":1,"do":"unplug","slot":[1]}',
    b'{"id":1,"do":"unplug","slot":"' + b"x" * 65 + b'"}',
    b'{"id":1,"do":"cpus","count":0}',
    b'{"id":1,"do":"cpus","count":99999999999999999999999}',
    b'{"id":1,"do":"plug","device":1}',
    b'{"id":1,"do":"plug","device":{"a":{"b":{"c":1}}}}',
    b'{"id":1,"do":"plug","device":{"a":[[1]]}}',
    b'{"id":1,"do":"plug","device":' + b"[" * 30000 + b"]" * 30000 + b"}",
    b'{"id":1,"do":"plug","device":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}",
    b"\xff\xfe{}",
    b'{"id":1,"do":"sta\xfftus"}',
    b'{"id":1,"do":"status"}{"id":2,"do":"status"}',
    b'{"id":1,"do":"status","do":"nonsense"}',
    b'{"id":1,"do":"\\u001b[2J\\n"}',
)


@pytest.mark.parametrize("line", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_line_that_is_no_request_is_refused_in_one_printable_line(line: bytes) -> None:
    with pytest.raises(protocol.BadRequestError) as refusal:
        protocol.parse_request(line)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


@given(st.binary(max_size=400))
@example(b'{"id":0,"do":"status"}')
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    with contextlib.suppress(protocol.BadRequestError):
        assert isinstance(protocol.parse_request(line), protocol.REQUESTS)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["id", "do", "slot", "device", "timeout", "force", "count"]) | st.text(max_size=9)
_WORDS = st.sampled_from([kind.__struct_config__.tag for kind in protocol.REQUESTS])


@given(st.dictionaries(_KEYS, _VALUES, max_size=7), _WORDS, st.integers(min_value=-1, max_value=1 << 60))
def test_any_object_is_a_request_or_refused(fields: dict[str, Any], word: str, number: int) -> None:
    line = json.dumps(fields | {"do": word, "id": number}).encode()
    with contextlib.suppress(protocol.BadRequestError):
        assert protocol.parse_request(line).id == number


def test_document_names_every_request_and_its_fields() -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    table = text[text.index("| `do` |") : text.index("## Events")]
    rows = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| `")}
    named = {word: row for words, row in rows.items() for word in words.replace("`", "").split(", ")}
    for kind in protocol.REQUESTS:
        word = str(kind.__struct_config__.tag)
        assert word in named
        for field in set(kind.__struct_fields__) - {"id"}:
            assert f"`{field}`" in named[word], (word, field)
    for number in (protocol.REQUEST_BYTES, server.CLIENTS, int(protocol.LONGEST_WAIT)):
        assert str(number) in text
