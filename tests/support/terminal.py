# SPDX-License-Identifier: MIT
"""A program on a pseudo terminal, and an expect-like reader that shows the transcript where it fails."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SHOWN = 4000


class Terminal:
    """One program with a terminal as its controlling one; standard error goes to a file.

    Args:
        command: what to run.
        errors: file for standard error.
        size: columns and rows of the terminal.
        variables: added to the environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        errors: Path,
        size: tuple[int, int] = (120, 40),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.errors = errors
        self.transcript = bytearray()
        self._from = 0
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.settings = termios.tcgetattr(self.slave)
        with errors.open("wb") as stderr:
            # setsid does not fork here (this child leads no group), so the process is the command itself.
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *command],
                stdin=self.slave,
                stdout=self.slave,
                stderr=stderr,
                env=os.environ | (variables or {}),
            )
        os.set_blocking(self.master, False)

    @property
    def position(self) -> int:
        """Where in the transcript the next :meth:`expect` begins."""
        return self._from

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; the program gets SIGWINCH."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def send(self, data: bytes, timeout: float = 120) -> None:
        """Type. Keeps reading meanwhile, as the program may wait for that."""
        end = time.monotonic() + timeout
        while data:
            readable, writable, _ = select.select([self.master], [self.master], [], 1)
            if readable:
                self._read()
            if writable:
                try:
                    data = data[os.write(self.master, data[:1024]) :]
                except BlockingIOError:
                    continue
            if time.monotonic() > end:
                self.fail(f"{len(data)} bytes were not taken within {timeout} s")

    def expect(self, pattern: str | bytes, timeout: float = 60) -> re.Match[bytes]:
        """Read until a pattern comes; what comes after it is for the next call."""
        wanted = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        end = time.monotonic() + timeout
        while True:
            match = wanted.search(self.transcript, self._from)
            if match:
                self._from = match.end()
                return match
            if time.monotonic() > end:
                self.fail(f"{wanted.pattern!r} did not come within {timeout} s")
            ended = self.process.poll() is not None
            if not self._wait(0.5) and ended:
                self.fail(f"the program ended with {self.process.returncode} before {wanted.pattern!r} came")

    def wait(self, timeout: float = 60) -> int:
        """Read until the program ends; return its status, negative for a signal."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            self._wait(0.2)
            if time.monotonic() > end:
                self.fail(f"the program did not end within {timeout} s")
        while self._wait(0):
            pass
        return self.process.returncode

    def ends_with(self, status: int, timeout: float = 60) -> None:
        """Fail, with what the program said, if it does not end with this status."""
        ended = self.wait(timeout)
        if ended != status:
            self.fail(f"the program ended with {ended}, not {status}")

    def close(self) -> None:
        """End the program and its terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            os.close(self.slave)
            self.master = self.slave = -1

    def error_text(self) -> str:
        """What the program wrote to standard error."""
        return self.errors.read_text(encoding="utf-8", errors="replace")

    def fail(self, reason: str) -> None:
        """Fail the test, with what was seen."""
        text = self.transcript[-_SHOWN:].decode("utf-8", "backslashreplace").replace("\r", "")
        seen = re.sub(r"(.)\1{50,}", r"\1…\1", text)
        raise AssertionError(
            f"{reason}\n--- end of the transcript ---\n{seen}\n"
            f"--- standard error ---\n{self.error_text()[-_SHOWN:]}"
        )

    def _wait(self, timeout: float) -> bool:
        readable, _, _ = select.select([self.master], [], [], timeout)
        return bool(readable) and self._read()

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 65536)
        except (BlockingIOError, OSError):
            return False
        self.transcript += data
        return bool(data)
