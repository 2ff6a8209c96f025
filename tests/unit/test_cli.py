# SPDX-License-Identifier: MIT
"""The command, as a script or a person meets it: one line on standard error and an exit status."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: arm64 Image header (Documentation/arch/arm64/booting.rst): code0, code1, text_offset, image_size, flags, …
ARM64 = struct.Struct("<IIQQQQQQII")


def vdesktop(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from vdesktop_core.cli.main import main; main()", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """An arm64 image whose only instruction is a branch to itself."""
    path = tmp_path / "Image"
    header = ARM64.pack(0x14000000, 0, 0, 4096, 0, 0, 0, 0, 0x644D5241, 0)
    path.write_bytes(header.ljust(4096, b"\0"))
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def refused(*arguments: str) -> str:
    """Run, and return the one line that says why not."""
    done = vdesktop(*arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vdesktop: ")
    return lines[0]


def test_run_no_kernel_says_which_option() -> None:
    assert "--kernel FILE" in refused("run")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--backend", "none-such"), "backend 'none-such' is not installed"),
        (("--arch", "vax"), "unknown architecture 'vax'"),
        (("--cpus", "99"), "at most 8 CPUs"),
        (("--cpus", "0"), "0 CPUs"),
        (("--cpus", "many"), "'many' is not a valid integer"),
        (("--memory", "some"), "'some' is not a size"),
        (("--memory", "8M"), "16M at least"),
        (("--memory", "9999999G"), "too large"),
        (("--disk", "/none/such.img"), "/none/such.img does not exist"),
        (("--disk", "/"), "is a directory"),
        (("--net", "pigeon"), "unknown network 'pigeon'"),
        (("--net", "tap=name-longer-than-the-kernel-takes"), "name-longer-than-the-kernel-takes"),
        (("--console", "teletype"), "unknown console 'teletype'"),
        (("--display", "hologram"), "no display front-end 'hologram'"),
        (("--timeout", "-1"), "-1"),
        (("--none-such",), "No such option"),
        (("--initrd", "/none/such"), "/none/such"),
    ],
)
def test_run_impossible_option_is_one_line(kernel: Path, options: tuple[str, ...], complaint: str) -> None:
    arch = () if "--arch" in options else ("--arch", "aarch64")
    console = () if "--console" in options else ("--console", "none")
    assert complaint in refused("run", *arch, *console, "--kernel", str(kernel), *options)


def test_run_kernel_of_other_architecture_names_it(kernel: Path) -> None:
    line = refused("run", "--console", "none", "--arch", "riscv64", "--kernel", str(kernel))
    assert "aarch64" in line
    assert "--arch aarch64" in line


def test_run_truncated_kernel_says_where_it_ends(tmp_path: Path, kernel: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(kernel.read_bytes()[:40])
    assert "short" in refused("run", "--console", "none", "--arch", "aarch64", "--kernel", str(short))


def test_run_empty_kernel_is_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert "empty" in refused("run", "--console", "none", "--arch", "aarch64", "--kernel", str(empty))


def test_run_second_writer_of_a_disk_is_refused(kernel: Path, disk: Path) -> None:
    options = ("--console", "none", "--arch", "aarch64", "--kernel", str(kernel))
    assert str(disk) in refused("run", *options, "--disk", str(disk), "--disk", str(disk))


def test_run_endless_guest_times_out_with_124(kernel: Path, disk: Path) -> None:
    done = vdesktop(
        *("run", "--console", "none", "--arch", "aarch64", "--kernel", str(kernel)),
        *("--disk", f"{disk},ro", "--timeout", "0.3", "--stats", "json"),
    )
    assert done.returncode == 124
    counters = json.loads(done.stderr.splitlines()[0])
    assert set(counters) == {"vm", "power0", "console0", "blk0", "rng0"}
    assert all(value >= 0 for values in counters.values() for value in values.values())
    assert "no power-off within 0.3 s" in done.stderr.splitlines()[-1]


def test_run_machine_file_and_options_are_joined(tmp_path: Path, kernel: Path) -> None:
    (tmp_path / "machine.toml").write_text(
        f"""
        [machine]
        arch = "aarch64"
        cpus = 2
        [boot]
        kernel = "{kernel.name}"
        [[device]]
        type = "rng"
        name = "dice"
        """
    )
    done = vdesktop(
        *("run", str(tmp_path / "machine.toml"), "--console", "none", "--cpus", "1"),
        *("--timeout", "0.2", "--stats", "json"),
    )
    assert done.returncode == 124
    assert set(json.loads(done.stderr.splitlines()[0])) == {"vm", "power0", "console0", "dice"}


def test_info_json_lists_backends_with_reasons_devices_and_maps() -> None:
    done = vdesktop("info", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    tcg = next(backend for backend in report["backends"] if backend["name"] == "tcg")
    assert tcg["available"]
    assert tcg["reason"]
    assert {"blk", "console", "net", "rng"} <= {device["name"] for device in report["devices"]}
    assert set(report["memory_maps"]) == {"x86_64", "aarch64", "riscv64"}


def test_info_tables_name_every_backend_and_device() -> None:
    done = vdesktop("info")
    assert done.returncode == 0, done.stderr
    for word in ("tcg", "blk", "Memory map, riscv64"):
        assert word in done.stdout


def test_info_of_one_architecture_shows_its_map_only() -> None:
    done = vdesktop("info", "--json", "--arch", "aarch64")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["memory_maps"]) == {"aarch64"}


def test_help_names_every_command() -> None:
    done = vdesktop("--help")
    assert done.returncode == 0
    for command in ("run", "info", "guest"):
        assert command in done.stdout


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_run_signal_ends_with_128_and_its_number(kernel: Path, signal: str) -> None:
    import signal as signals

    number = getattr(signals, signal)
    command = [
        *(sys.executable, "-c", "from vdesktop_core.cli.main import main; main()", "run"),
        *("--console", "none", "--arch", "aarch64", "--kernel", str(kernel), "--log-level", "info"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "started on tcg" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(30) == 128 + number


def test_run_without_a_place_for_its_control_socket_warns_and_runs(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    run = ("run", "--console", "none", "--arch", "aarch64", "--kernel", str(kernel), "--timeout", "0.2")
    done = vdesktop(*run)
    assert done.returncode == 124
    assert "no control socket: cannot make" in done.stderr
    assert "correct XDG_RUNTIME_DIR, or use --no-control" in refused(*run, "--control")
    assert "no control socket" not in vdesktop(*run, "--no-control").stderr
