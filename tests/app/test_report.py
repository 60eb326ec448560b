"""What the page says about the model: the evaluation and the card, from files that may be anything."""

import copy
import html
import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from app import report
from tests.app import tiny_model

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def folder(models, tmp_path):
    """A model folder of its own, to damage."""
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture
def evaluation():
    return copy.deepcopy(tiny_model.EVALUATION)


def quality(folder, evaluation):
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return report.quality(folder)


class Balance(HTMLParser):
    """Reads HTML and insists that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# Unhappy paths


def test_a_model_without_anything_beside_it(tmp_path):
    assert "came without its evaluation" in report.quality(tmp_path)
    assert "came without a card" in report.card(tmp_path)
    assert "came without its evaluation" in report.quality(tmp_path / "missing")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b"null", b"7", b'"metrics"', b"[" * 100_000, b'{"metrics": NaN}']
)
def test_a_damaged_evaluation_gets_a_sentence(folder, content):
    (folder / "evaluation.json").write_bytes(content)
    text = report.quality(folder)
    assert "is damaged" in text
    assert "<table" not in text


@pytest.mark.parametrize("name", ["evaluation.json", "mistakes.png", "README.md"])
def test_a_folder_where_a_file_should_be(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert "damaged" in report.quality(folder) + report.card(folder)


@pytest.mark.parametrize("value", [None, "0.9", "", [], {}, -0.1, 1.1, 1e300, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "path",
    [
        ("metrics", "accuracy"),
        ("per_class", 0, "f1"),
        ("reliability", "calibrated", 1, "confidence"),
    ],
)
def test_what_is_no_share_is_not_shown(folder, evaluation, path, value):
    *way, last = path
    place = evaluation
    for step in way:
        place = place[step]
    place[last] = value
    assert "is damaged" in quality(folder, evaluation)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": []},
        {"class_names": ["Trouser", "Sandal"]},
        {"class_names": ["Trouser", "Sandal", 3]},
        {"class_names": None},
        {"confusion": [[1, 2], [3, 4]]},
        {"confusion": [[1, 2, 3], [4, 5, 6]]},
        {"confusion": [[1, 2, 3], [4, 5, 6], [7, 8]]},
        {"confusion": [[0, 0, 0]] * 3},
        {"confusion": [[-1, 2, 3]] * 3},
        {"confusion": "abc"},
        {"confusion": 3},
        {"per_class": []},
        {"per_class": [{}, {}, {}]},
        {"per_class": None},
        {"reliability": {"calibrated": []}},
        {"reliability": {"calibrated": [1], "uncalibrated": []}},
        {"metrics": {}},
    ],
)
def test_shapes_that_do_not_fit(folder, evaluation, change):
    assert "is damaged" in quality(folder, {**evaluation, **change})


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_the_picture_of_mistakes_may_be_missing_or_damaged(folder, content):
    file = folder / "mistakes.png"
    if content is None:
        file.write_bytes(file.read_bytes()[:200])
    elif content:
        file.write_bytes(content)
    else:
        file.unlink()
    text = report.quality(folder)
    assert "<img" not in text
    assert ("There is no picture" if content == b"" else "is damaged") in text
    assert 'class="matrix"' in text.replace("'", '"')


@pytest.mark.parametrize("name", [SCRIPT, '"><img src=x onerror=alert(1)>', "${alert(1)}{{value}}", "a & b"])
def test_class_names_cannot_break_the_page(folder, evaluation, name):
    evaluation["class_names"] = [name, "Sandal", "Bag"]
    text = quality(folder, evaluation)
    assert html.escape(name) in text
    assert name not in text or name == html.escape(name)
    tags = Balance(text).seen
    assert {tag for tag, _ in tags} & {"script", "iframe"} == set()
    assert [attributes["src"][:22] for tag, attributes in tags if tag == "img"] == ["data:image/png;base64,"]


def test_a_class_that_has_no_test_pictures(folder, evaluation):
    evaluation["confusion"][0] = [0, 0, 0]
    assert "Confusion matrix" in quality(folder, evaluation)


def test_many_classes_have_no_matrix(folder, evaluation):
    count = report.MOST_CLASSES + 1
    evaluation["class_names"] = [f"kind {k}" for k in range(count)]
    evaluation["per_class"] = [evaluation["per_class"][0]] * count
    evaluation["confusion"] = [[9 if i == j else int(i == 2 and j == 7) for j in range(count)] for i in range(count)]
    text = quality(folder, evaluation)
    assert "Confusion matrix" not in text
    assert "31 kinds are too many" in text
    assert "it takes kind 2 for kind 7 (1 of 10)" in text
    Balance(text)


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b""])
def test_a_card_that_cannot_be_shown(folder, content):
    (folder / "README.md").write_bytes(content)
    assert re.search(r"is damaged|is empty", report.card(folder))


def test_a_card_cannot_bring_html_or_pictures_of_other_machines(folder):
    (folder / "README.md").write_text(f"# A\n{SCRIPT}\n\n![eye](https://example.org/eye.png)\n\n<img src=//e.org/x>\n")
    text = report.card(folder)
    assert "<" not in text
    assert "![" not in text


# Happy paths


def test_the_evaluation_in_words_and_tables(models):
    text = report.quality(models)
    tags = Balance(text).seen
    assert "Of 100 test pictures" in text
    assert "named 90 rightly" in text
    for figure in "90.0%", "84.0% to 95.0%", "96.0%", "1.25 names", "2.0%", "8.0%", "0.300", "0.400", "1.10 is":
        assert figure in text, figure
    assert "Most often it takes Bag for Sandal (4 of 40)" in text
    assert "knows <strong>Trouser</strong> best and <strong>Bag</strong> least" in text
    headers = [attributes for tag, attributes in tags if tag == "th"]
    assert headers
    assert all(attributes.get("scope") in ("row", "col") for attributes in headers)
    assert [tag for tag, _ in tags].count("caption") == [tag for tag, _ in tags].count("table") == 2
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for _, a in tags if a.get("class") == "scroll")
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert [tag for tag, _ in tags if re.fullmatch(r"h\d", tag)] == ["h2", "h3", "h3", "h3", "h3"]


def test_the_matrix_holds_the_confusions(models):
    table = re.search(r"<table class='matrix'>.*?<tbody>(.*?)</tbody>", report.quality(models))
    assert table is not None
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table[1])
    found = {name: [int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", cells)] for name, cells in rows}
    assert found == dict(zip(tiny_model.CLASS_NAMES, tiny_model.EVALUATION["confusion"], strict=True))


def test_the_diagram_is_a_drawing_that_can_be_read_aloud(models):
    text = re.search(r'<svg viewBox="[^"]*" role="img".*?</svg>', report.quality(models))
    assert text is not None
    drawing = ET.fromstring(text[0])
    title, description = drawing.find("title"), drawing.find("desc")
    assert drawing.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "says 96%, right 94% of 90" in description.text
    assert [len(drawing.findall(f"g[@class='{name}']/circle")) for name in ("calibrated", "uncalibrated")] == [2, 2]
    assert "http" not in text[0]


def test_the_card_without_its_block_below_the_pages_heading(models):
    text = report.card(models)
    assert text.startswith("## Garment classifier\n")
    assert "license:" not in text
    assert "\n### Figures\n" in text
    assert "dtype=np.uint8)  # light on black" in text
    assert "[shapes](https://example.org/shapes)" in text


def test_a_comment_in_the_cards_code_is_no_heading(folder):
    (folder / "README.md").write_text("# A\n```python\n# a comment\nx < 3\n```\n# B\n")
    assert report.card(folder) == "## A\n```python\n# a comment\nx < 3\n```\n## B"
