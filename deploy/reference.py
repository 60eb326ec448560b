"""The site's reference, from what checks the program itself: params.yaml, stages/params.py, the OpenAPI schema.

`deploy.site`, the site's hook, puts the tables where a page says `<!-- reference: NAME -->`.
"""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

COMMENT = re.compile(r"(\w+): (.*?) +# (.*)")


def params(file: Path = Path("params.yaml")) -> str:
    """Every knob: its value, what else it may be, what it means."""
    from stages.params import allowed

    rows = ["| param | value | allowed | meaning |", "|---|---|---|---|"]
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and " " not in line[2:]:  # the stage that reads what follows
            rows.append(f"| **{line[2:]}** | | | |")
        elif found := COMMENT.fullmatch(line):
            key, value, meaning = found.groups()
            rows.append(f"| `{key}` | `{value}` | {allowed(key)} | {_cell(meaning)} |")
    return "\n".join(rows)


def http() -> str:
    """Every route with its fields, from the schema that the app gives at /openapi.json."""
    schema = openapi()
    parts = []
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts += [f"### `{method.upper()} {path}`", "", inspect.cleandoc(route.get("description", "")), ""]
            for field in route.get("parameters", []):
                meaning = field.get("description", "") or field["schema"].get("title", "")
                default = field["schema"].get("default")
                given = "required" if default is None else f"default `{default}`"
                parts += [f"- `{field['name']}` in the {field['in']}: {meaning} ({given})"]
            if body := route.get("requestBody"):
                parts += [f"- body: {', '.join(f'`{kind}`' for kind in body['content'])}"]
            parts += [*_responses(route["responses"]), ""]
    parts += ["### What they answer with", ""]
    for name, one in sorted(schema["components"]["schemas"].items()):
        parts += [f"#### {name}", "", one.get("description", ""), "", "| field | type | meaning |", "|---|---|---|"]
        for field, of in one.get("properties", {}).items():
            parts.append(f"| `{field}` | {_cell(_type(of))} | {_cell(of.get('description', ''))} |")
        parts.append("")
    return "\n".join(parts)


def openapi() -> dict[str, Any]:
    """The schema; the routes are made for no model, which they ask only when they are called."""
    from app import api, exhibits, watch
    from app.endpoints import Endpoints

    nobody: Any = SimpleNamespace(classifier=None, version="", monitor=None, feedback=None)
    metrics: watch.Metrics = SimpleNamespace()  # type: ignore[assignment]
    return api.create(Endpoints(nobody), metrics, exhibits.read_samples(Path("no models"))).openapi()


def _responses(responses: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each kind of answer, with the statuses that have it."""
    by_kind: dict[str, list[str]] = {}
    for status, answer in responses.items():
        kinds = []
        for kind, content in answer.get("content", {}).items():
            of = _type(content.get("schema", {}))
            kinds.append(f"[{of}](#{of.lower()})" if of[0].isupper() else f"`{kind}`")
        by_kind.setdefault(", ".join(dict.fromkeys(kinds)), []).append(status)
    return [f"- {', '.join(statuses)}: {kinds}" for kinds, statuses in by_kind.items()]


def _type(of: dict[str, Any]) -> str:
    if "$ref" in of:
        return str(of["$ref"]).rpartition("/")[2]
    if "anyOf" in of:
        return " or ".join(_type(one) for one in of["anyOf"])
    if of.get("type") == "array":
        return f"list of {_type(of.get('items', {}))}"
    if of.get("type") == "object" and isinstance(of.get("additionalProperties"), dict):
        return f"object of {_type(of['additionalProperties'])}"
    return str(of.get("type", "anything"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


TABLES = {"params": params, "http": http}
