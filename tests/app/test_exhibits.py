import io

import numpy as np
import pytest
from PIL import Image

from app.exhibits import example, read_samples
from app.pictures import decode, to_model_input
from tests.app import tiny_model


@pytest.mark.parametrize("labels", [None, "", "[1]", '"text"', "{}", "[" * 100_000, b"\xff"])
def test_without_labels_the_files_name_has_to_do(tmp_path, labels):
    folder = tmp_path / "samples"
    (folder / "test").mkdir(parents=True)
    Image.new("L", (28, 28)).save(folder / "test/03-ankle-boot.png")
    if labels is not None:
        (folder / "labels.json").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    assert [sample.label for sample in read_samples(tmp_path)["test"]] == ["ankle boot"]


def test_a_model_without_samples_has_an_example_all_the_same(tmp_path, classifier):
    assert read_samples(tmp_path) == {}
    seen = to_model_input(decode(example({})), classifier.image_size)
    assert classifier.class_names[classifier.predict(seen[None]).probabilities.argmax()] == "Trouser"


def test_samples_by_split_under_their_classes(models, shapes):
    found = read_samples(models)
    assert set(found) == {"train", "val", "test"}
    for split, samples in found.items():
        assert [sample.label for sample in samples] == tiny_model.CLASS_NAMES
        assert {sample.file.parent.name for sample in samples} == {split}
    with Image.open(io.BytesIO(example(found))) as image:
        assert (np.asarray(image) == shapes["Trouser"]).all()
