# SPDX-License-Identifier: MIT
"""Which Debian mirror to use: the one this host uses itself.

No mirror is named in this project: a host's administrator chose one, or a person says which.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from vdesktop_core.errors import GuestBuildError

_ASK = "say which Debian mirror to use: --mirror URL"
_FETCHABLE = ("http://", "https://", "file:", "copy:", "mirror")
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_DEBOOTSTRAP_SCRIPTS = Path("/usr/share/debootstrap/scripts")


def find_mirror(suite: str) -> str:
    """Return the URL of a Debian mirror from this host's own configuration.

    On Debian, apt says what it is configured with (in either format of its source lists); elsewhere,
    an installed debootstrap knows Debian's default mirror.

    Raises:
        GuestBuildError: the host knows none.
    """
    release = _os_release()
    if release.get("ID") == "debian":
        mirror = _from_apt(release.get("VERSION_CODENAME", ""))
        if mirror:
            return mirror
    mirror = _from_debootstrap(suite)
    if mirror:
        return mirror
    raise GuestBuildError(f"this host is not configured with a Debian mirror: {_ASK}")


def find_keyring() -> Path:
    """Return the file of Debian's archive keys.

    Raises:
        GuestBuildError: it is not installed.
    """
    for path in _KEYRINGS:
        if path.is_file():
            return path
    raise GuestBuildError("Debian's archive keys are missing: install the package debian-archive-keyring")


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, equals, value in pairs if equals}


def choose_mirror(targets: str, codename: str) -> str | None:
    """Pick the main archive's mirror out of ``apt-get indextargets`` lines of URI, release and component.

    The host's own release first: that is the line which security and third-party sources lack.
    """
    rows = [tuple(line.split("|")) for line in targets.splitlines() if line.count("|") == 2]
    usable = [row for row in rows if row[2] == "main" and row[0].startswith(_FETCHABLE)]
    for wanted in ({codename}, {"stable", "testing", "unstable", "sid"}):
        for uri, release, _ in usable:
            if release in wanted:
                return uri.rstrip("/")
    return None


def _from_apt(codename: str) -> str | None:
    command = [
        "apt-get",
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
        "Identifier: Packages",
    ]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return choose_mirror(result.stdout, codename)


def _from_debootstrap(suite: str) -> str | None:
    script = _DEBOOTSTRAP_SCRIPTS / suite
    program = shutil.which("debootstrap", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None or not script.is_file():
        return None
    patterns = (
        (script, r"^\s*default_mirror\s+(\S+)"),
        (Path(program), r"^DEF_MIRROR=[\"']?([^\"'\s]+)"),
    )
    for path, pattern in patterns:
        try:
            found = set(re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))
        except OSError:
            continue
        # An Ubuntu debootstrap has Ubuntu's mirror as its default: that one has no Debian suite.
        debian = [url for url in found if url.rstrip("/").endswith("/debian")]
        if len(debian) == 1:
            return str(debian[0]).rstrip("/")
    return None
