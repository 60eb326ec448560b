"""The README's example for Python programs does what the README says."""

import re
from pathlib import Path

import pytest
from PIL import Image

from app.main import Settings, create_app
from tests.app.served import served

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:7860"


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "gradio_client" in block]
    return block


@pytest.fixture
def run(models, classifier, shapes, tmp_path, monkeypatch, capsys):
    """Runs a program beside one.png, against a served app; returns its names and its last line."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(shapes["Bag"]).save("one.png")

    def run(program):
        with served(create_app(Settings(model_dir=models), classifier)) as address:
            assert ADDRESS in program
            names = {}
            exec(program.replace(ADDRESS, address), names)
        return names, capsys.readouterr().out.splitlines()[-1]

    return run


def test_what_is_wrong_gets_a_sentence(run):
    Path("notes.txt").write_text("These are notes.")
    names, _ = run(f"""
from gradio_client import Client, handle_file
page = Client("{ADDRESS}", verbose=False)
said = []
for name, value in (
    ("/classify", handle_file("notes.txt")),
    ("/classify", handle_file("http://127.0.0.1:9/one.png")),
    ("/sample", "99"),
):
    try:
        page.predict(value, api_name=name)
    except Exception as error:
        said.append(str(error))
print("done")
""")
    assert names["said"] == [
        "This is not a picture in a format known here: PNG, JPEG, WebP, GIF or BMP.",
        "Please send a file, not an address.",
        "There is no sample of this number.",
    ]


def test_the_example(run, classifier, shapes):
    names, line = run(example())
    probability = float(classifier.predict(shapes["Bag"][None]).probabilities.max())
    assert line == f"Bag {probability}"
    assert "sure" in names["words"]
    for picture in (names["seen"], names["evidence"]):
        with Image.open(picture) as image:
            assert image.size == (280, 280)


def test_the_functions_have_readable_names_for_what_they_take_and_give(run):
    said = run(f"""
from gradio_client import Client
page = Client("{ADDRESS}", verbose=False)
api = page.view_api(return_format="dict")["named_endpoints"]
print("done")
""")[0]["api"]
    assert set(said) == {"/classify", "/classify_drawing", "/sample"}
    takes = {name: [p["parameter_name"] for p in function["parameters"]] for name, function in said.items()}
    assert takes == {"/classify": ["picture"], "/classify_drawing": ["drawn"], "/sample": ["number"]}
    gives = ["Most likely classes", "The answer in words, as HTML", "What the model sees", "What spoke for it"]
    for name in ("/classify", "/classify_drawing"):
        assert [r["label"] for r in said[name]["returns"]] == gives
