# SPDX-License-Identifier: MIT
"""What a rig did twice is told in the summary, also where it passed then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for line in report.capstdout.splitlines():
            if line.startswith("RERUN "):
                terminalreporter.write_line(f"{report.nodeid} did this twice: {line}", yellow=True)
