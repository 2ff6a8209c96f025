# SPDX-License-Identifier: MIT
"""docs/hostile-guests.md names tests that exist, and each test of a class is named."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hostile-guests.md").read_text(encoding="utf-8")
CLASSES = "tests/differential/test_hostile_classes.py"
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str, str]]:
    return [(m[1], m[3], m[4]) for m in _ROW.finditer(PAGE) if m[1] != "class"]


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


@pytest.mark.parametrize(("name", "native", "twin"), rows(), ids=[row[0] for row in rows()])
def test_hostile_class_names_tests_that_exist(name: str, native: str, twin: str) -> None:
    assert _TEST.search(native), f"{name}: no test of the C core"
    assert _TEST.search(twin) or "the twin" in twin, (
        f"{name}: neither a test of the twin nor why there is none"
    )
    assert all(file.startswith("tests/differential/") for file, _ in _TEST.findall(twin))
    for file, function in _TEST.findall(native + twin):
        assert function in functions(file), f"{name}: {file} has no {function}"


def test_hostile_classes_are_all_there() -> None:
    assert len(rows()) >= 20


def test_hostile_class_tests_are_all_named() -> None:
    tests = {name for name in functions(CLASSES) if name.startswith("test_")}
    assert tests == {function for file, function in _TEST.findall(PAGE) if file == CLASSES}


def test_fuzz_targets_are_all_described() -> None:
    targets = {path.stem.removeprefix("fuzz_") for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.*")}
    described = PAGE[PAGE.index("## Fuzzing") :]
    assert targets == set(re.findall(r"^\| (\w+) \|", described, re.MULTILINE)) - {"target"}
