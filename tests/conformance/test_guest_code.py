# SPDX-License-Identifier: MIT
"""The conformance guest's bytes are those of its sources."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing import conformance
from vdesktop_core.testing.conformance.blobs import BLOBS

SOURCES = Path(conformance.__file__).parent / "guest"


@pytest.mark.parametrize("arch", list(Arch))
def test_guest_code_is_what_its_source_assembles_to(arch: Arch, tmp_path: Path) -> None:
    target = (
        ["--target=riscv64-linux-gnu", "-mno-relax"]
        if arch is Arch.RISCV64
        else [f"--target={arch}-linux-gnu"]
    )
    out = tmp_path / "guest.o"
    subprocess.run(["clang", *target, "-c", SOURCES / f"{arch}.S", "-o", out], check=True)
    with out.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        assert text.data() == BLOBS[arch]
