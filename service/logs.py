"""Structured log lines on stderr: one JSON object each, no secrets, no control characters."""

from __future__ import annotations

import json
import logging
import re
import sys
import time

from service.settings import Settings

# color_message is uvicorn's: the message again, with escape sequences and unfilled.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRETS = re.compile(r"(bnf_[0-9a-z]+\.)[A-Za-z0-9_-]+|(whsec_)[A-Za-z0-9+/=]+|(://[^/:@\s]+:)[^@\s]+(?=@)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class JsonLines(logging.Formatter):
    """time, level, logger, message and whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = clean(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = clean(self.formatException(record.exc_info).replace("\n", " | "))
        return masked(json.dumps(line, default=str))  # again: what `extra` brought may be nested


class TextLines(logging.Formatter):
    """For a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """`12:00:00 info bnfold.worker: job started job=…`."""
        extra = " ".join(f"{k}={clean(str(v))}" for k, v in vars(record).items() if k not in _STANDARD)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = (
            f"{clock} {record.levelname.lower()} {record.name}: {clean(record.getMessage())} {extra}".rstrip()
        )
        if record.exc_info:
            text += "".join("\n" + clean(line) for line in self.formatException(record.exc_info).splitlines())
        return text


def clean(text: str) -> str:
    """Secrets masked, control characters out."""
    return _CONTROLS.sub(" ", masked(text))


def masked(text: str) -> str:
    """API keys, webhook secrets and the passwords of addresses, without what makes them secret."""
    return _SECRETS.sub(lambda m: (m.group(1) or m.group(2) or m.group(3)) + "***", text)


def storable(text: str) -> str:
    """Text from a model's names: without control characters (PostgreSQL holds no NUL) and lone surrogates."""
    return clean(text).encode("utf-8", "replace").decode()


def configure(settings: Settings) -> None:
    """Set the root logger up; safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access", "procrastinate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
