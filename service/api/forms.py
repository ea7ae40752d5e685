"""multipart/form-data as a stream: files go straight into the blob store, nothing is spooled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.bodies import Sink, body_chunks, keep, sink
from service.auth.principal import Principal
from service.errors import BadRequest, TooLarge
from service.wiring import Services

FILES = ("model", "calibration", "probe")
COMPARED = ("model", "artifact", "probe")
FIELDS = ("options", "filename")
MAX_FIELD = 64 << 10
MAX_HEADER = 8 << 10


@dataclass
class _Collector:
    """Turns the parser's callbacks into a list of what to do, drained after each piece."""

    todo: list[tuple[str, bytes]] = field(default_factory=list)
    header_bytes: int = 0
    _name: bytes = b""
    _value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def callbacks(self) -> dict[str, object]:
        """For MultipartParser."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.todo.append(("data", data[start:end])),
            "on_part_end": lambda: self.todo.append(("end", b"")),
            "on_header_field": self._field,
            "on_header_value": self._more,
            "on_header_end": self._header,
            "on_headers_finished": lambda: self.todo.append(
                ("head", self.headers.get(b"content-disposition", b""))
            ),
            "on_end": lambda: self.todo.append(("done", b"")),
        }

    def _begin(self) -> None:
        self.headers, self.header_bytes = {}, 0

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, size: int) -> None:
        self.header_bytes += size
        if self.header_bytes > MAX_HEADER:
            raise TooLarge("A part's headers are too long.", headers={"Connection": "close"})

    def _header(self) -> None:
        self.headers[self._name.lower()] = self._value
        self._name = self._value = b""


async def receive(
    request: Request, ports: Services, who: Principal, filename: str, files: tuple[str, ...] = FILES
) -> tuple[dict[str, str], dict[str, str], str]:
    """(digest by file part, text by field, file name of the model). Nothing is kept of a broken form.

    files: names of the parts that are files; the first is required.
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise BadRequest("The form has no boundary.", code="bad_form")
    sinks: dict[str, Sink] = {}
    texts: dict[str, bytearray] = {}
    async with AsyncExitStack() as stack:
        current, ended = "", False
        async for kind, data in _parts(request, ports, boundary):
            if kind == "head":
                current, filename = _part_name(data, filename, files)
                if current in sinks or current in texts:
                    raise BadRequest(f"The form has {current!r} twice.", code="bad_form")
                if current in files:
                    sinks[current] = await stack.enter_async_context(sink(ports, who))
                else:
                    texts[current] = bytearray()
            elif kind == "data" and current in sinks:
                await sinks[current].feed(data)
            elif kind == "data":
                texts[current] += data
                if len(texts[current]) > MAX_FIELD:
                    raise TooLarge(f"The field {current!r} is too long.", headers={"Connection": "close"})
            ended = ended or kind == "done"
        if not ended or "model" not in sinks or not sinks["model"].taken:
            raise BadRequest("The form is cut, or has no `model` file.", code="bad_form")
        digests = {name: (await keep(ports, who, out))[0] for name, out in sinks.items()}
    fields = {name: value.decode("utf-8", "replace") for name, value in texts.items()}
    return digests, fields, fields.get("filename", filename)


async def _parts(request: Request, ports: Services, boundary: bytes) -> AsyncIterator[tuple[str, bytes]]:
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())  # type: ignore[arg-type]
        async for piece in body_chunks(request, ports):
            parser.write(piece)
            todo, collector.todo = collector.todo, []
            for kind, data in todo:
                yield kind, data
    except FormParserError as error:
        raise BadRequest("The form cannot be read.", code="bad_form") from error


def _part_name(disposition: bytes, filename: str, files: tuple[str, ...]) -> tuple[str, str]:
    parameters = parse_options_header(disposition)[1]
    name = parameters.get(b"name", b"").decode("utf-8", "replace")
    if name not in (*files, *FIELDS):
        raise BadRequest(
            f"Unknown form field {name[:60]!r}.",
            code="unknown_option",
            hint=f"Known: {', '.join((*files, *FIELDS))}.",
        )
    given = parameters.get(b"filename", b"").decode("utf-8", "replace")
    return name, given if name == "model" and given else filename
