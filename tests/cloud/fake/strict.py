"""Bodies of APIs whose protobufs the tests do not have: a key that is not named is refused, as Google refuses it."""

import re
from typing import Any

from tests.cloud.fake import RefusedError


def parsed(body: Any, **shape: Any) -> Any:
    """The body, if it has no other keys than these, and values of their types; a dict is a shape in itself."""
    if not isinstance(body, dict):
        raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received: {body!r} is no object")
    for key, value in body.items():
        if key not in shape:
            raise RefusedError(400, "INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{key}"')
        wanted = shape[key]
        if isinstance(wanted, dict):
            parsed(value, **wanted)
        elif not isinstance(value, wanted):
            raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid value at '{key}': {value!r}")
    return body


def masked(body: Any, mask: str) -> dict[str, Any]:
    """What an update changes: the fields that its mask names, however deep below them; the body may hold more."""
    fields = {re.sub(r"_(\w)", lambda match: match[1].upper(), name.split(".")[0]) for name in mask.split(",")}
    if "" in fields:
        raise RefusedError(400, "INVALID_ARGUMENT", "an update wants a mask")
    return {field: body.get(field) for field in fields}
