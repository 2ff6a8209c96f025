# SPDX-License-Identifier: MIT
"""Seed inputs for the fuzz targets, and dictionaries: valid input, from which the fuzzer goes astray.

``seeds.py TARGET FOLDER DICTIONARY`` writes those of one target. The form of an input is that of harness.h,
or of the module that has the target's seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import control_seeds
import core_seeds
import port_seeds
import power_seeds
import screen_seeds
import vdagent_seeds


def dictionary(words: list[bytes]) -> str:
    """Return words in libFuzzer's format."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


SEEDS = {
    "blk": core_seeds.blk,
    "console": port_seeds.console,
    "control": control_seeds.seeds,
    "gpu": screen_seeds.gpu,
    "input": screen_seeds.input_device,
    "mmio": core_seeds.mmio,
    "net": port_seeds.net,
    "power": power_seeds.seeds,
    "rfb": screen_seeds.rfb,
    "rings": core_seeds.rings,
    "vdagent": vdagent_seeds.seeds,
}
WORDS = {
    "console": port_seeds.console_words,
    "control": control_seeds.words,
    "gpu": screen_seeds.gpu_words,
    "mmio": core_seeds.mmio_words,
    "net": port_seeds.net_words,
    "power": power_seeds.words,
    "rfb": screen_seeds.rfb_words,
    "vdagent": vdagent_seeds.words,
}


def main(target: str, folder: Path, words: Path) -> None:
    """Write the seeds and the dictionary of one target."""
    for name, data in SEEDS[target]().items():
        (folder / name).write_bytes(data)
    words.write_text(dictionary(WORDS[target]()) if target in WORDS else "")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
