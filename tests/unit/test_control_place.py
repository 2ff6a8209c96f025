# SPDX-License-Identifier: MIT
"""Names of machines, and where their control sockets lie."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.control import place
from vdesktop_core.control.client import Client
from vdesktop_core.control.place import Claim
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "vdesktop"


def test_claim_makes_a_socket_that_nobody_else_may_use(folder: Path) -> None:
    with contextlib.closing(Claim("one")) as claim:
        assert claim.path == folder / "one.sock"
        assert claim.path.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_second_machine_of_a_name_is_refused_in_one_line(folder: Path) -> None:
    with contextlib.closing(Claim("one")), pytest.raises(ControlError, match="'one' runs already") as refusal:
        Claim("one")
    assert "\n" not in str(refusal.value)


def test_machine_that_nobody_named_gets_a_number() -> None:
    with (
        contextlib.closing(Claim("vdesktop")),
        contextlib.closing(Claim("vdesktop", numbered=True)) as second,
    ):
        assert second.name == "vdesktop-2"
        assert place.names() == ["vdesktop", "vdesktop-2"]


def test_socket_of_a_killed_machine_is_replaced_and_not_listed(folder: Path) -> None:
    kill = (
        "import os; from vdesktop_core.control.place import Claim; c = Claim('one'); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", kill], check=False).returncode == -signal.SIGKILL
        assert (folder / "one.sock").exists()
        with contextlib.closing(Claim("one")):
            assert place.names() == ["one"]
    subprocess.run([sys.executable, "-c", kill], check=False)
    assert place.names() == []
    assert not (folder / "one.sock").exists()


def test_close_leaves_a_successors_socket_alone(folder: Path) -> None:
    first = Claim("one")
    (folder / "one.sock").unlink()
    with contextlib.closing(Claim("one")):
        first.close()
        assert place.names() == ["one"]


def test_long_runtime_path_has_a_socket_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with contextlib.closing(Claim("n" * 64)):
        assert place.names() == ["n" * 64]


def test_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with pytest.raises(ControlError, match="mode 755"):
        Claim("one")


def test_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="cannot open"):
        Claim("one")


def test_no_runtime_folder_lists_nothing_and_names_no_machine() -> None:
    assert place.names() == []
    with pytest.raises(ControlError, match=r"no machine named 'one' runs \(running: none\)"):
        Client("one")
