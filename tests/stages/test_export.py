import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from app.classifier import UNUSUAL, Classifier
from stages import batches
from stages import export as module
from stages.export import export
from stages.network import load
from stages.stage import StageError, read_json
from stages.typical import Typical
from tests.conftest import Run


def again(run: Run, out: Path, min_accuracy: float = 0.1) -> None:
    export(
        run.prepared,
        run.models / "network.pt",
        run.reports / "evaluation",
        run.reports / "robustness",
        out / "models",
        out / "reports",
        min_accuracy=min_accuracy,
    )


def test_below_min_accuracy_nothing_is_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"accuracy 0\.\d+ on the test split is below min_accuracy 0\.99") as error:
        again(run, tmp_path, min_accuracy=0.99)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_network_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_onnx = module.to_onnx

    def spoilt(served: module.Served, *rest: object) -> bytes:
        head = served.network.head
        with torch.no_grad():
            head.bias += torch.eye(len(head.bias))[0] * 1e-2
            data = to_onnx(served, *rest)
            head.bias -= torch.eye(len(head.bias))[0] * 1e-2
        return data

    monkeypatch.setattr(module, "to_onnx", spoilt)
    with pytest.raises(StageError, match=r"the exported file is not the network.*nothing was exported"):
        again(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_inputs_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    again(run, tmp_path)
    for file in ("model.onnx", "model.int8.onnx", "README.md", "serve.json"):
        assert (tmp_path / "models" / file).read_bytes() == (run.models / file).read_bytes(), file


def test_the_graph_has_the_promised_signature_at_any_batch_size(run: Run) -> None:
    graph = onnx.load(str(run.models / "model.onnx")).graph
    assert [i.name for i in graph.input] == ["image"]
    assert [o.name for o in graph.output] == ["probabilities", "heatmap", "distance", "projection"]
    classifier = Classifier(run.models / "model.onnx")
    for n in (1, 3, 7):
        prediction = classifier.predict(np.zeros((n, 28, 28), np.uint8))
        assert prediction.probabilities.shape == (n, 10)
        assert prediction.heatmaps.shape == (n, 7, 7)
        assert prediction.probabilities.sum(1) == pytest.approx(1, abs=1e-5)


def test_probabilities_are_the_calibrated_ones(run: Run) -> None:
    network, _ = load(str(run.models / "network.pt"))
    temperature = read_json(run.reports / "evaluation/calibration.json")["temperature"]
    images, _ = batches.read_split(run.prepared, "test", torch.device("cpu")).take(np.arange(20))
    with torch.no_grad():
        expected = torch.softmax(network(images) / temperature, 1).numpy()
    found = Classifier(run.models / "model.onnx").predict(images.numpy()).probabilities
    assert np.abs(found - expected).max() < 1e-5


def test_the_heat_map_adds_up_to_the_top_score(run: Run) -> None:
    network, _ = load(str(run.models / "network.pt"))
    images, _ = batches.read_split(run.prepared, "test", torch.device("cpu")).take(np.arange(5))
    with torch.no_grad():
        top = (network(images) - network.head.bias).max(1)
        top = network(images).max(1).values - network.head.bias[network(images).argmax(1)]
    heat = Classifier(run.models / "model.onnx").predict(images.numpy()).heatmaps
    assert heat.mean((1, 2)) == pytest.approx(top.numpy(), abs=1e-3)


def test_metadata_says_what_it_is_and_no_more(run: Run) -> None:
    metadata = Classifier(run.models / "model.onnx").metadata
    assert set(metadata) == {
        "class_names",
        "dataset",
        "distances",
        "dataset_sha256",
        "label_set",
        "metrics",
        "params",
        "project_version",
    }
    assert metadata["params"]["lr"] == 0.005
    assert metadata["label_set"]["coverage"] == 0.9
    assert "data_dir" not in metadata["params"]
    assert Classifier(run.models / "model.int8.onnx").metadata == metadata


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_no_path_of_this_machine_is_in_the_file(file: str, run: Run) -> None:
    content = (run.models / file).read_bytes()
    for word in (str(Path(module.__file__).parents[1]), str(run.folder), "site-packages"):
        assert word.encode() not in content
    assert not re.search(rb"[\w/]{4,}\.py", content)


def test_int8_is_served_only_where_it_loses_little(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INT8_MAY_LOSE", -1.0)  # it would have to gain
    again(run, tmp_path)
    assert json.loads((tmp_path / "models/serve.json").read_text()) == {"file": "model.onnx"}
    report = read_json(run.reports / "export/metrics.json")
    within = report["int8"]["accuracy"] >= report["fp32"]["accuracy"] - 0.001
    assert report["served"] == ("model.int8.onnx" if within else "model.onnx")
    assert report["int8"]["bytes"] < report["fp32"]["bytes"]


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_of_pictures_like_the_ones_it_knows_few_are_unusual_and_noise_is_more_so(file: str, run: Run) -> None:
    classifier = Classifier(run.models / file)
    test = np.load(run.prepared / "test.images.npy")
    shares = classifier.predict(test).in_distribution
    report = read_json(run.reports / "export/metrics.json")
    assert report["int8" if "int8" in file else "fp32"]["unusual"] == float((shares < UNUSUAL).mean())
    assert (shares < UNUSUAL).mean() < 0.1
    assert 0.3 < np.median(shares) < 0.7  # a share of pictures, so spread evenly
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    # The network of the tests has hardly learnt, on every processor something else: so compared, not bounded.
    assert np.median(classifier.predict(noise).in_distribution) < np.quantile(shares, 0.25)


def test_the_graph_measures_the_distances_that_were_fitted(run: Run) -> None:
    network, _ = load(str(run.models / "network.pt"))
    images, _ = batches.read_split(run.prepared, "test", torch.device("cpu")).take(np.arange(20))
    with torch.no_grad():
        features = network.features(images).mean((2, 3)).numpy()
    expected = Typical.load(run.reports / "evaluation/typical.npy").distances(features)
    session = onnxruntime.InferenceSession(run.models / "model.onnx")
    (found,) = session.run(["distance"], {"image": images.numpy()})
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_card_has_its_figures_and_its_code_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (run.models / "README.md").read_text(encoding="utf-8")
    _, block, text = card.split("---\n", 2)
    result = yaml.safe_load(block)["model-index"][0]["results"][0]
    metrics = read_json(run.reports / "evaluation/metrics.json")
    assert result["metrics"][0]["value"] == metrics["accuracy"]
    assert f"{metrics['accuracy']:.2%}" in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    assert len(code[1].strip().splitlines()) == 5
    shutil.copytree(run.models, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code[1], names)
    assert names["probabilities"].shape == (1, 10)  # type: ignore[attr-defined]
