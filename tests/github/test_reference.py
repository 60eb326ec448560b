"""The tables of the site's reference: all that there is, and as it is."""

import yaml

from deploy import reference, site
from stages.params import Params
from tests.conftest import ROOT


def test_every_param_has_its_value_what_is_allowed_and_a_meaning() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    rows = {
        cells[0].strip(" `"): [cell.strip() for cell in cells[1:]]
        for line in reference.params(ROOT / "params.yaml").splitlines()
        if (cells := line.replace("\\|", "or").strip("|").split("|"))[0].startswith(" `")
    }
    assert set(rows) == set(Params.model_fields)
    for name, (value, allowed, meaning) in rows.items():
        assert value == f"`{values[name]}`"
        assert allowed
        assert meaning


def test_every_route_and_every_answer_is_there() -> None:
    text, schema = reference.http(), reference.openapi()
    for path, methods in schema["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`" in text
    for name, one in schema["components"]["schemas"].items():
        assert f"#### {name}\n" in text
        for field in one["properties"]:
            assert f"| `{field}` |" in text
    assert "- 400, 408, 413, 415, 422: [Problem](#problem)" in text
    assert "- `class` in the query: the right one (required)" in text


def test_a_page_gets_the_table_that_it_names() -> None:
    config = {"docs_dir": str(ROOT / "docs")}
    page = site.on_page_markdown("before\n\n<!-- reference: params -->\n\nafter", config=config)
    assert page.startswith("before\n\n| param |")
    assert page.endswith("\n\nafter")
