# SPDX-License-Identifier: MIT
"""What an installation that is not editable contains."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_packaging_names_every_package() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set()
    for top, folder in tool["package-dir"].items():
        for source in (ROOT / folder).rglob("*.py"):
            found.add(".".join((top, *source.parent.relative_to(ROOT / folder).parts)))
    assert found - set(tool["packages"]) == set(), "not installed"


def test_packaging_knows_every_folder_of_backends_and_plugins() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {ROOT / folder for folder in tool["package-dir"].values()}
    present = {
        path.parent
        for kind in ("backends", "plugins")
        for path in ROOT.glob(f"{kind}/*/vdesktop_*/plugin.py")
    }
    assert present - folders == set()
