# SPDX-License-Identifier: MIT
"""The device of examples/, installed as a package of its own, works with a stock driver."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from guest import ROOT, running

if TYPE_CHECKING:
    from pathlib import Path

    from guest import Image

SEED = 2013


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's package: built from a copy, as building writes next to the sources."""
    folder = tmp_path_factory.mktemp("dice")
    shutil.copytree(ROOT / "examples/virtio-dice", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", folder / "site", folder / "source"], check=True)
    return folder / "site"


def test_third_party_device_serves_the_stock_driver(
    arch_image: Image, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    machine = tmp_path / "machine.toml"
    text = (arch_image.folder / "machine.toml").read_text()
    for name in ("kernel", "initrd"):
        text = text.replace(f'{name} = "{name}"', f'{name} = "{arch_image.folder / name}"')
    machine.write_text(text + f'\n[[device]]\ntype = "dice"\nsides = 6\nseed = {SEED}\n')
    with running(arch_image, tmp_path, "--no-rng", machine=machine) as guest:
        assert guest.run("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
        throws = [int(word) for word in guest.run("od -An -v -tu1 -N300 /dev/hwrng").split()]
        assert guest.power_off() == 0
    assert len(throws) == 300
    assert set(throws) == {1, 2, 3, 4, 5, 6}
    dice = random.Random(SEED)
    stream = bytes(dice.randint(1, 6) for _ in range(100_000))
    # The kernel's own pool takes some in between, so the row is broken now and then.
    assert any(bytes(throws[at : at + 16]) in stream for at in range(len(throws) - 16))


def test_third_party_example_is_a_device_in_under_60_lines() -> None:
    assert len((ROOT / "examples/virtio-dice/virtio_dice.py").read_text().splitlines()) < 60
