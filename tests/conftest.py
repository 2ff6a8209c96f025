# SPDX-License-Identifier: MIT
"""Layers: the folders of tests/. ``--require`` says which of them must really have run.

A skipped test is a hole in what a run shows. Where CI says that a layer runs, a skip in it fails, and so
does a layer without a single passed test. Tests that need what not every host can have (a TAP device, KVM)
are marked ``host``, and only they may be skipped then.

With ``-n`` (pytest-xdist) modules run side by side, and a module's guests too: only tests of the same guest
share what a fixture booted, unless a test names its group.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

try:
    import hypothesis
except ImportError:  # in a rig, which has what its tests need
    pass
else:
    # How long an example takes is the machine's affair, and its other work's.
    hypothesis.settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")

_TESTS = Path(__file__).parent
_GUEST = re.compile(r"(x86_64|aarch64|riscv64)(-(bookworm|trixie))?")


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
    parser.addoption(
        "--desktops",
        default="x86_64,aarch64,riscv64",
        metavar="ARCH,…",
        help="whose desktops tests/desktop boots (all)",
    )
    parser.addoption(
        "--rounds",
        type=int,
        metavar="N",
        help="how often tests of plug and unplug do it (100 on one architecture, fewer on the others)",
    )
    parser.addoption(
        "--cpus", type=int, metavar="N", help="CPUs of the guests of tests/boot (1, or 4 in tests of SMP)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host(what): needs what not every host has; may be skipped")
    required = {name for name in config.getoption("require").split(",") if name}
    if required:
        plugin = _Required(required, hasattr(config, "workerinput"))
        config.pluginmanager.register(plugin, "vdesktop-required-layers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # xdist reads the groups where the tests run.
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        guest = _GUEST.search(item.name)
        module = item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(f"{module}-{guest[0]}" if guest else module))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a test was done again, where pytest-rerunfailures did that."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"done again: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


class _Required:
    """Turns skips of required layers into failures, and watches that each layer ran."""

    def __init__(self, layers: set[str], worker: bool) -> None:
        self.layers = layers
        # One of several processes: the one that they report to gives the verdict.
        self.worker = worker
        self.passed: set[str] = set()

    @staticmethod
    def layer(nodeid: str) -> str:
        """The folder of tests/ that a test is in, or "" for another's."""
        path = (_TESTS.parent / nodeid.partition("::")[0]).resolve()
        return path.relative_to(_TESTS).parts[0] if path.is_relative_to(_TESTS) else ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> object:
        report = yield
        if (
            report.skipped
            and self.layer(item.nodeid) in self.layers
            and not hasattr(report, "wasxfail")
            and not item.get_closest_marker("host")
        ):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} must run here, and was skipped: {reason}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.add(self.layer(report.nodeid))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped and self.layer(report.nodeid) in self.layers:
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid} must run here, and was skipped as a whole"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.worker and self.layers - self.passed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for layer in sorted(self.layers - self.passed):
            terminalreporter.write_line(f"REQUIRED tests/{layer}: no test of it passed", red=True)
