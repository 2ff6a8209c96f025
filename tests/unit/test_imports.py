# SPDX-License-Identifier: MIT
"""The house's rules that a machine can check: who imports whom, licences, no registry named."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def packages() -> dict[str, Path]:
    """Every import package of the distribution, by name: the core, the backends, the plugins."""
    folders = [
        ROOT / "vdesktop_core",
        *ROOT.glob("backends/*/vdesktop_*"),
        *ROOT.glob("plugins/*/vdesktop_*"),
    ]
    return {path.name: path for path in folders if path.is_dir()}


#: The one plugin that is built on another: a browser's pictures are RFB.
BUILT_ON = {"vdesktop_web": "vdesktop_rfb"}


def may_import(importer: str, imported: str) -> bool:
    """Whether one package of ours may import another: its own, the core, or what it is built on."""
    return imported in (importer, "vdesktop_core", BUILT_ON.get(importer))


def imported_packages(source: str) -> set[str]:
    """Top-level names that a source imports, lazily or not, strings given to import_module included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func).rpartition(".")[2]
            argument = node.args[0]
            if function in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                names.add(str(argument.value))
    return {name.partition(".")[0] for name in names}


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, committed or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (ROOT / name for name in listing.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@pytest.mark.parametrize("package", sorted(packages()))
def test_imports_of_a_package_are_its_own_or_the_cores(package: str) -> None:
    ours = set(packages())
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in packages()[package].rglob("*.py")
        for name in imported_packages(path.read_text(encoding="utf-8")) & ours
        if not may_import(package, name)
    ]
    assert not wrong


def test_imports_of_unicorn_are_in_the_gpl_backend_only() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for name, folder in packages().items()
        if name != "vdesktop_tcg"
        for path in folder.rglob("*.py")
        if "unicorn" in imported_packages(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_native_sources_include_nothing_of_python() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "vdesktop_core/native").rglob("*.[ch]")
        if re.search(r"#\s*include\s*[<\"](Python\.h|.*unicorn)", path.read_text(encoding="utf-8"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "source",
    ["import vdesktop_tcg", "def f():\n    from vdesktop_tcg.x import y", "import_module('vdesktop_tcg.x')"],
)
def test_imported_packages_sees_every_way_to_import(source: str) -> None:
    assert imported_packages(source) == {"vdesktop_tcg"}


def test_licence_line_opens_every_source() -> None:
    gpl = {("backends", "tcg"), ("tests", "tcg"), ("guest",)}
    wrong = []
    for path in tracked("*.py", "*.pyi", "*.c", "*.h", "*.S", "scripts/*", ".ci/*"):
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:2])
        found = re.search(r"SPDX-License-Identifier: ([\w.-]+)", head)
        inside = path.relative_to(ROOT).parts
        allowed = {"MIT", "GPL-2.0-only"} if {inside[:1], inside[:2]} & gpl else {"MIT"}
        if head and (not found or found[1] not in allowed):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_no_file_names_a_package_registry_or_its_mirror() -> None:
    # Written so that this file is not one of them.
    hosts = ("pypi", "debian", "ubuntu", "npmjs", "crates", "pythonhosted")
    pattern = re.compile(rf"\b[\w.-]*\b({'|'.join(hosts)})\.(org|io|com|net)\b")
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not wrong


def test_tests_import_nothing_from_a_conftest() -> None:
    """Several folders have one, and which of them is meant depends on which folders are run together."""
    guilty = [
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"^(from|import) conftest\b", path.read_text(), re.MULTILINE)
    ]
    assert not guilty


def test_test_modules_of_folders_without_a_package_have_names_of_their_own() -> None:
    # pytest imports them by their bare names, and refuses a second one. kvm and xen run alone, in rigs.
    alone = {"kvm", "xen", "rigs"}
    names = [
        path.name
        for path in tracked("tests/**/test_*.py")
        if not (path.parent / "__init__.py").exists() and path.relative_to(ROOT).parts[1] not in alone
    ]
    assert sorted(names) == sorted(set(names))
