"""Log lines: one object each, no secrets, nothing that a terminal would act on."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from service.logs import JsonLines, TextLines, storable

SECRETS = (
    "bnf_v2f03pxgff74nbyat834.Zm9vYmFyYmF6cXV4LXF1dXg_c2VjcmV0",
    "whsec_c2VjcmV0c2VjcmV0c2VjcmV0",
    "postgresql://bnfold:hunter2secret@db:5432/bnfold",
)
PARTS = ("Zm9vYmFy", "c2VjcmV0", "hunter2secret")


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "args": arguments, "name": "bnfold", "levelname": "INFO"})
    vars(made).update(extra)
    return made


def raised(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError as error:
        return type(error), error, error.__traceback__


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()], ids=["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "where",
    [
        lambda s: record(f"sent {s}"),
        lambda s: record("sent %s", s),
        lambda s: record("sent", key=s),
        lambda s: record("sent", headers={"authorization": [f"Bearer {s}"]}),
        lambda s: record("failed", exc_info=raised(f"refused {s}")),
    ],
    ids=["message", "argument", "extra", "nested", "exception"],
)
def test_no_secret_gets_into_a_line(formatter: logging.Formatter, secret: str, where: Any) -> None:
    line = formatter.format(where(secret))
    assert not any(part in line for part in PARTS)
    assert "***" in line


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()], ids=["json", "text"])
def test_no_name_moves_the_cursor_or_begins_a_line(formatter: logging.Formatter) -> None:
    hostile = 'a\n{"level": "error"}\r\x1b[31m\x9b2J\u2028b\x7f'
    lines = formatter.format(record(hostile, layer=hostile, layers=[hostile])).splitlines()
    assert len(lines) == 1
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in lines[0])


def test_a_line_is_an_object_with_what_extra_brought() -> None:
    line = json.loads(JsonLines().format(record("job started", job="j1", slots=2, color_message="\x1b[36mx")))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "logger": "bnfold", "message": "job started", "job": "j1", "slots": 2}


def test_an_exception_is_part_of_its_line() -> None:
    line = json.loads(JsonLines().format(record("failed", exc_info=raised("found 3, expected 4"))))
    assert "found 3, expected 4" in line["exception"]


def test_what_is_stored_is_text_that_every_database_holds() -> None:
    assert storable("conv\x00\ud800/\x1bbn") == "conv ?/ bn"
