# SPDX-License-Identifier: MIT
"""Finding installed plugins."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.entry_points import EntryPoint, entry_points, parse
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def _distribution(folder: Path, name: str, text: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["vdesktop", "console_scripts", "pytest11", "no such group"])
def test_entry_points_installed_are_those_of_the_standard_library(group: str) -> None:
    standard = {(e.name, e.module, e.attr or "") for e in importlib.metadata.entry_points(group=group)}
    assert {(e.name, e.module, e.attribute) for e in entry_points(group)} == standard


def test_entry_points_do_not_import_the_standard_librarys_reader() -> None:
    import subprocess

    code = "import sys; from vdesktop_core.hooks import plugin_manager; plugin_manager(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "vdesktop_core.plugin" in modules.split()
    assert "importlib.metadata" not in modules.split()


def test_entry_points_of_a_distribution_that_is_there_twice_are_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, spelled in (("a", "My.Plugin"), ("b", "my_plugin")):
        _distribution(tmp_path / folder, spelled, f"[group-x]\nname = module_{folder}\n")
        monkeypatch.syspath_prepend(tmp_path / folder)
    assert entry_points("group-x") == [EntryPoint("name", "module_b")]


def test_entry_points_in_an_archive_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    _distribution(tmp_path / "x", "zipped", "[group-x]\nname = zipped.plugin:thing\n")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "x")
    monkeypatch.syspath_prepend(archive)
    assert entry_points("group-x") == [EntryPoint("name", "zipped.plugin", "thing")]


def test_entry_points_file_is_read_as_specified() -> None:
    text = """
[other]
a = wrong

[vdesktop]
# a comment
; another
first=pkg.plugin
second two = pkg.plugin : thing.inner [extra, more]
no value
broken = not a module!
"""
    assert list(parse(text, "vdesktop")) == [
        EntryPoint("first", "pkg.plugin"),
        EntryPoint("second two", "pkg.plugin", "thing.inner"),
    ]


@pytest.mark.parametrize(("module", "attribute"), [("no_such_module_here", ""), ("os", "no_such_thing")])
def test_entry_point_that_cannot_be_imported_is_one_line(module: str, attribute: str) -> None:
    with pytest.raises(ConfigError, match=r"plugin 'mine' cannot be imported: .*: install it again"):
        EntryPoint("mine", module, attribute).load()
