import json

import pytest
from PIL import Image

from app import samples
from tests.app import tiny_model


@pytest.mark.parametrize("labels", [None, "", "[1]", '"text"', "{}", "[" * 100_000])
def test_without_labels_the_files_name_has_to_do(tmp_path, labels):
    (tmp_path / "test").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "test/03-ankle-boot.png")
    if labels is not None:
        (tmp_path / "labels.json").write_text(labels)
    assert [sample.name for sample in samples.read(tmp_path)] == ["ankle boot"]


def test_buttons_have_names_that_cannot_break_the_page(tmp_path):
    (tmp_path / "test").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "test/00-x.png")
    (tmp_path / "labels.json").write_text(json.dumps({"test/00-x.png": "${evil} <b> {{x}}"}))
    template = samples.row(samples.read(tmp_path)).html_template
    assert 'aria-label="Sample: evil} &lt;b&gt; x}}"' in template
    assert "${" not in template
    assert "{{" not in template
    assert 'src="data:image/png;base64,' in template


def test_no_samples_no_row(tmp_path):
    assert samples.read(tmp_path) == []
    assert samples.row([]).visible is False


def test_the_pictures_of_the_test_split_under_their_classes(models):
    found = samples.read(models / "samples")
    assert [sample.name for sample in found] == tiny_model.CLASS_NAMES
    assert {sample.path.parent.name for sample in found} == {"test"}
