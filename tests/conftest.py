# SPDX-License-Identifier: MIT
"""Layers: the folders of tests/. ``--require`` says which of them must really have run.

A skipped test is a hole in what a run shows. Where CI says that a layer runs, a skip in it fails, and so
does a layer without a single passed test. Tests that need what not every host can have (a TAP device, KVM)
are marked ``host``, and only they may be skipped then.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="LAYER,…",
        help="fail where one of these folders of tests/ has a skipped test, or none that passed",
    )
    parser.addoption(
        "--backend", default="tcg", metavar="NAME", help="what tests/boot boots its guests on (tcg)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host(what): needs what not every host has; may be skipped")
    required = {name for name in config.getoption("require").split(",") if name}
    if required:
        config.pluginmanager.register(_Required(required), "vdesktop-required-layers")


class _Required:
    """Turns skips of required layers into failures, and watches that each layer ran."""

    def __init__(self, layers: set[str]) -> None:
        self.layers = layers
        self.passed: set[str] = set()

    @staticmethod
    def layer(path: Path) -> str:
        try:
            return path.relative_to(_TESTS).parts[0]
        except ValueError:
            return ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> object:
        report = yield
        if self.layer(item.path) in self.layers:
            if report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("host"):
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid} must run here, and was skipped: {reason}"
            if report.when == "call" and report.passed:
                self.passed.add(self.layer(item.path))
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped and report.nodeid.split("/")[1:2] and report.nodeid.split("/")[1] in self.layers:
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid} must run here, and was skipped as a whole"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.layers - self.passed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for layer in sorted(self.layers - self.passed):
            terminalreporter.write_line(f"REQUIRED tests/{layer}: no test of it passed", red=True)
