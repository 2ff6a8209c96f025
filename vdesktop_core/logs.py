# SPDX-License-Identifier: MIT
"""Structured logging: one event a line, as text or JSON, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Parent of every logger of this package; the C core's records come under ``vdesktop_core.native``.
ROOT = "vdesktop_core"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        where = getattr(record, "device", record.name.removeprefix(f"{ROOT}."))
        # A guest chooses some of what is logged: nothing of it may reach a terminal as a control character.
        message = record.getMessage().encode("unicode_escape").decode("ascii")
        line = f"vdesktop: {record.levelname.lower()}: {where}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        from json import dumps  # by those who want it: start-up time

        self._encode = dumps

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if hasattr(record, "device"):
            entry["device"] = record.device
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return self._encode(entry)


class _TerminalHandler(logging.StreamHandler[Any]):
    """Ends lines with a carriage return where the terminal is in raw mode (the console has it)."""

    def emit(self, record: logging.LogRecord) -> None:
        self.terminator = "\r\n" if sys.stderr.isatty() else "\n"
        super().emit(record)


def set_up(level: str, style: str) -> None:
    """Send this package's records to standard error.

    Args:
        level: a key of :data:`LEVELS`.
        style: ``text`` or ``json``.
    """
    handler = _TerminalHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    for name in (ROOT, "vdesktop"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(LEVELS[level])
        logger.propagate = False
