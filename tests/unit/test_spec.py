# SPDX-License-Identifier: MIT
"""The specification says what the code does, and names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from vdesktop_core.arch import spec

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "spec").glob("*.md"))
_ROW = re.compile(r"^\| (VD-[A-Z]-\d{3}) \| (.*?) \| (.*) \| (.*?) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def _requirements() -> list[tuple[str, str, str]]:
    return [
        (match[1], match[2], match[4])
        for path in PAGES
        for match in _ROW.finditer(path.read_text(encoding="utf-8"))
    ]


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_spec_requirement_numbers_are_unique() -> None:
    numbers = [number for number, _, _ in _requirements()]
    assert len(numbers) > 30
    assert len(numbers) == len(set(numbers))


def test_spec_every_number_mentioned_is_a_row() -> None:
    mentioned = {n for path in PAGES for n in re.findall(r"VD-[A-Z]-\d{3}", path.read_text(encoding="utf-8"))}
    assert mentioned == {number for number, _, _ in _requirements()}


@pytest.mark.parametrize(("number", "who", "test"), _requirements())
def test_spec_requirement_names_a_test_that_exists(number: str, who: str, test: str) -> None:
    assert who in {"H", "G", "L"}
    if test == "pending":
        return
    named = _TEST.findall(test)
    assert named, f"{number}: {test!r} is neither a test nor pending"
    for file, function in named:
        assert (ROOT / file).is_file(), f"{number}: {file} does not exist"
        assert function.startswith("test_")
        assert function in _functions(ROOT / file), f"{number}: {file} has no {function}"


def test_spec_memory_map_is_up_to_date() -> None:
    page = (ROOT / "docs" / "spec" / "memory-map.md").read_text(encoding="utf-8")
    assert page == spec.page(), "run: python -m vdesktop_core.arch.spec > docs/spec/memory-map.md"


def test_spec_links_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
