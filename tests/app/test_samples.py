import json

from PIL import Image

from app import samples
from app.exhibits import read_samples


def test_buttons_have_names_that_cannot_break_the_page(tmp_path):
    folder = tmp_path / "samples"
    (folder / "test").mkdir(parents=True)
    Image.new("L", (28, 28)).save(folder / "test/00-x.png")
    (folder / "labels.json").write_text(json.dumps({"test/00-x.png": "${evil} <b> {{x}}"}))
    template = samples.row(read_samples(tmp_path)["test"]).html_template
    assert 'aria-label="Sample: evil} &lt;b&gt; x}}"' in template
    assert "${" not in template
    assert "{{" not in template
    assert 'src="data:image/png;base64,' in template


def test_no_samples_no_row():
    assert samples.row([]).visible is False
