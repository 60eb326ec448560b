"""The files of a multipart form whose body is in memory already, since `app.limits` bounds it.

python-multipart does the parsing. Starlette's way to it spools every file and costs five times as much, which is a
sixth of a whole request.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

Part = tuple[str | None, bytes]  # the file's name, None where the part is a word and no file; its bytes


def parts(body: bytes, content_type: str, most: int) -> list[Part]:
    """The parts of a form, in their order.

    Args:
        body: the whole request body.
        content_type: the request's header, which names the boundary.
        most: parts, before the form is refused.

    Raises:
        HTTPException: 400, the body is no such form.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "The form's content type names no boundary between its parts.")
    found: list[Part] = []
    header, value = bytearray(), bytearray()
    dispositions: list[bytes] = []
    pieces: list[bytes] = []
    ended = False

    def begin() -> None:
        if len(found) == most:
            raise HTTPException(400, f"The form has more than {most} parts.")
        dispositions.clear()
        pieces.clear()

    def end_of_header() -> None:
        if header.lower() == b"content-disposition":
            dispositions.append(bytes(value))
        header.clear()
        value.clear()

    def end_of_part() -> None:
        options = parse_options_header(dispositions[0])[1] if dispositions else {}
        name = options.get(b"filename")
        found.append((None if name is None else name.decode("utf-8", "replace"), b"".join(pieces)))

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(  # refuses a long boundary
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, stop: header.extend(data[start:stop]),
                "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
                "on_header_end": end_of_header,
                "on_part_data": lambda data, start, stop: pieces.append(data[start:stop]),
                "on_part_end": end_of_part,
                "on_end": end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        ended = False
    if not ended:
        raise HTTPException(400, "The form is damaged or incomplete.")
    return found
