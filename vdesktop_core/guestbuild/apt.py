# SPDX-License-Identifier: MIT
"""apt-get with lists and archives of its own, for one suite and one foreign architecture.

The host's apt configuration still applies where it says how to reach a mirror (proxies, timeouts);
its sources, preferences and hooks do not.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vdesktop_core.errors import GuestBuildError

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.guestbuild.progress import Progress

_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<name>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_STATUS = re.compile(r"dlstatus:\d+:(?P<percent>[\d.]+):")
_CLEARED = (
    "APT::Architectures",
    "APT::Update::Pre-Invoke",
    "APT::Update::Post-Invoke",
    "APT::Update::Post-Invoke-Success",
)


@dataclass(frozen=True, slots=True)
class Package:
    """A downloaded and verified package."""

    name: str
    version: str
    file: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class _Download:
    file: str
    size: int
    sha256: str


class Apt:
    """One suite and architecture of a mirror, with its state in ``folder``."""

    def __init__(self, folder: Path, *, mirror: str, suite: str, architecture: str, keyring: Path) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise GuestBuildError(f"{tool} is missing: install the packages apt and dpkg")
        if any(c in mirror for c in " \t\n[]#\"'"):
            raise GuestBuildError(f"{mirror!r} is not a mirror's URL: give one without spaces or quotes")
        self.mirror = mirror
        self.suite = suite
        self.architecture = architecture
        self._folder = folder
        self._keyring = keyring
        key = hashlib.sha256(f"{mirror} {suite} {architecture}".encode()).hexdigest()[:16]
        self._state = folder / "apt" / f"{suite}-{architecture}-{key}"
        self._archives = folder / "archives"
        self._config = self._state / "apt.conf"
        for path in (self._state / "lists" / "partial", self._state / "cache", self._archives):
            path.mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        sources = self._state / "sources.list"
        sources.write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n", encoding="utf-8")
        settings = {
            "Dir::State": self._state,
            "Dir::State::lists": self._state / "lists",
            "Dir::State::status": self._state / "status",
            "Dir::Cache": self._state / "cache",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            # What --print-uris prints, or else it is any that the lists have.
            "Acquire::ForceHash": "SHA256",
            "Acquire::Retries": 3,
            # The sandbox user could not write to a cache folder below someone's home.
            "APT::Sandbox::User": "root",
        }
        lines = [f"#clear {name};" for name in _CLEARED]
        lines += [f'{name} "{value}";' for name, value in settings.items()]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def sibling(self, architecture: str) -> Apt:
        """Return the same suite and mirror for another architecture."""
        return Apt(
            self._folder,
            mirror=self.mirror,
            suite=self.suite,
            architecture=architecture,
            keyring=self._keyring,
        )

    def update(self, progress: Progress) -> None:
        """Bring the package lists up to date; without a mirror, go on with those of the last time.

        Raises:
            GuestBuildError: there are no lists, or they are not signed with a key of the keyring.
        """
        errors = self._transfer(["update"], progress)
        if not errors:
            return
        if any("NO_PUBKEY" in line or "BADSIG" in line or "not signed" in line for line in errors):
            raise GuestBuildError(
                f"{self.mirror} {self.suite} is not signed with a key of debian-archive-keyring: "
                "upgrade that package, or check --mirror"
            )
        if not list((self._state / "lists").glob("*Packages*")):
            raise GuestBuildError(
                f"cannot read {self.suite} from {self.mirror} ({errors[0]}): "
                "check the network or give --mirror URL"
            )
        progress.note(f"{self.mirror} cannot be reached: using the package lists of the last time")

    def dependencies(self, package: str) -> list[str]:
        """Return the names a package depends on, the first of alternatives.

        Raises:
            GuestBuildError: there is no such package.
        """
        record = self._run(["apt-cache", "show", "--no-all-versions", package])
        depends = re.search(r"^Depends: (.*)$", record, re.MULTILINE)
        return [part.split()[0] for part in depends[1].split(",")] if depends else []

    def fetch(self, packages: list[str], progress: Progress) -> list[Package]:
        """Download packages that are not in the cache yet, and verify all of them.

        Raises:
            GuestBuildError: no such package, no network, or a checksum that does not match.
        """
        downloads = self._listed(["download"], packages)
        missing = [d for d in downloads if not _matches(self._archives / d.file, d)]
        if missing:
            wanted = {d.file.partition("_")[0] for d in missing}
            self._download(["download", *(p for p in packages if p in wanted)], missing, progress)
        return [self._package(download) for download in downloads]

    def fetch_closure(self, packages: tuple[str, ...], progress: Progress) -> list[Package]:
        """Download what an installation of packages on an empty disk needs, and verify all of it.

        Raises:
            GuestBuildError: as :meth:`fetch`.
        """
        wanted = ["?essential", "?priority(required)", "apt", *packages]
        command = ["install", "-y", "--no-install-recommends"]
        downloads = self._listed(command, wanted)
        missing = [d for d in downloads if not _matches(self._archives / d.file, d)]
        if missing:
            for download in missing:
                (self._archives / download.file).unlink(missing_ok=True)
            where = ["-o", f"Dir::Cache::archives={self._archives}", "--download-only"]
            self._download([*command, *where, *wanted], missing, progress)
        return [self._package(download) for download in downloads]

    def _listed(self, command: list[str], packages: list[str]) -> list[_Download]:
        listing = self._run(["apt-get", *command, "--print-uris", "-qq", *packages])
        return [_Download(m["name"], int(m["size"]), m["sha256"]) for m in _URI_LINE.finditer(listing)]

    def _download(self, command: list[str], missing: list[_Download], progress: Progress) -> None:
        errors = self._transfer(command, progress)
        if errors:
            raise GuestBuildError(f"cannot download from {self.mirror}: {errors[0]}: try again to go on")
        for download in missing:
            if not _matches(self._archives / download.file, download):
                raise GuestBuildError(
                    f"{download.file} has another checksum than the package lists: try again"
                )

    def _package(self, download: _Download) -> Package:
        name, version, _ = download.file.split("_")
        return Package(name, unquote(version), self._archives / download.file, download.sha256)

    def _run(self, command: list[str]) -> str:
        tool, *arguments = command
        result = subprocess.run(
            [tool, "-c", str(self._config), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            # Not where archives are: apt-get download does not print those that are there.
            cwd=self._state,
        )
        if result.returncode:
            reason = _errors(result.stderr) or ["unknown reason"]
            raise GuestBuildError(f"{tool}: {reason[0]} ({self.suite} from {self.mirror})")
        return result.stdout

    def _transfer(self, command: list[str], progress: Progress) -> list[str]:
        """Run apt-get with its percentage going to ``progress``; returns its complaints if it failed."""
        process = subprocess.Popen(
            ["apt-get", "-c", str(self._config), "-q", "-o", "APT::Status-Fd=1", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
            cwd=self._archives,
        )
        with process:
            assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            assert process.stderr is not None  # noqa: S101
            for line in process.stdout:
                if match := _STATUS.match(line):
                    progress.advance(float(match["percent"]) / 100)
            complaints = process.stderr.read()
        return (_errors(complaints) or ["apt-get failed"]) if process.returncode else []


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _errors(text: str) -> list[str]:
    """Errors first, then warnings: a failed signature is a warning followed by a vague error."""
    lines = [line.strip() for line in text.splitlines()]
    return [line[3:] for mark in ("E: ", "W: ") for line in lines if line.startswith(mark)]


def _matches(path: Path, download: _Download) -> bool:
    try:
        if path.stat().st_size != download.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == download.sha256
    except FileNotFoundError:
        return False
