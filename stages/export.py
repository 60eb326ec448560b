"""export: models/network.pt -> models/model.onnx, proven on the whole test split before it counts.

Reads:  data/prepared/, models/network.pt, reports/evaluation/, reports/robustness/
Writes: models/model.onnx       uint8 [N, H, W] -> calibrated probabilities [N, K], heat map [N, h, w], distance [N],
                                projection [N, 8]
        models/model.int8.onnx  the same, smaller
        models/serve.json       which of the two to serve
        models/reference.json   what it says and sees on the validation split, to tell drift by
        models/samples/         a few test pictures to try
        models/README.md        the model card
        reports/export/         the proof
"""

import json
import logging
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.classifier import OUTPUTS, UNUSUAL, Classifier, ModelError
from stages import batches, card, exhibits, params, pins, reference
from stages.network import Network, load
from stages.stage import (
    StageError,
    log,
    read_json,
    run,
    sha256,
    whole_folder,
    write_bytes,
    write_json,
    write_text,
)
from stages.typical import Typical

TOLERANCE = 1e-5  # between torch's probabilities and the exported file's
INT8_MAY_LOSE = 0.001  # accuracy, beyond which the fp32 file is served
CALIBRATION_PICTURES = 1000
OPSET = 20


class Served(nn.Module):
    """The network as it is served: calibrated probabilities, where it looked, how far from its classes it was.

    The heat map is the class activation map of the top class: Zhou et al., "Learning Deep Features for
    Discriminative Localization", arXiv:1512.04150.
    """

    def __init__(self, network: Network, temperature: float, typical: Typical) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature
        self.whitening, self.centres = torch.from_numpy(typical.whitening), torch.from_numpy(typical.centres)
        self.directions = torch.from_numpy(reference.directions(len(typical.whitening)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """uint8 [N, H, W] -> probabilities [N, K], heatmap [N, H/4, W/4], distance [N] as in stages/typical.py, and
        projection [N, 8]: the whitened features along directions drawn at random, once for all models."""
        features = self.network.features(image)
        pooled = features.mean((2, 3))
        probabilities = torch.softmax(self.network.head(pooled) / self.temperature, 1)
        weights = self.network.head.weight[probabilities.argmax(1)]
        heatmap = (features * weights[:, :, None, None]).sum(1)
        white = pooled @ self.whitening
        away = white.unsqueeze(1) - self.centres.unsqueeze(0)
        return probabilities, heatmap, (away * away).sum(2).amin(1), white @ self.directions


def export(
    prepared: Path,
    network_file: Path,
    evaluation: Path,
    robust: Path,
    models: Path,
    out: Path,
    *,
    min_accuracy: float,
) -> None:
    """Export, prove, quantise, describe. Nothing is written to `models` unless all of it holds.

    Raises:
        StageError: accuracy below `min_accuracy`, or the file does not answer as torch does.
    """
    metrics, calibration = read_json(evaluation / "metrics.json"), read_json(evaluation / "calibration.json")
    if metrics["accuracy"] < min_accuracy:
        raise StageError(
            f"accuracy {metrics['accuracy']:.4f} on the test split is below min_accuracy {min_accuracy:g}: nothing "
            "was exported; train better or lower min_accuracy"
        )
    network, record = load(str(network_file))
    network.to(memory_format=torch.contiguous_format)  # the graph has a layout of its own
    served = Served(network, calibration["temperature"], Typical.load(evaluation / "typical.npy")).eval()
    splits = {name: batches.read_split(prepared, name, torch.device("cpu")) for name in ("train", "val", "test")}
    test = splits["test"]
    labels = test.labels.numpy()

    with TemporaryDirectory() as scratch:
        fp32, int8 = Path(scratch) / "model.onnx", Path(scratch) / "model.int8.onnx"
        metadata = describe(record, metrics, calibration)
        write_bytes(fp32, to_onnx(served, record["data"]["image_size"], metadata))
        classifier = opened(fp32)
        proof = prove(classifier, served, test)
        quantise(fp32, int8, np.load(prepared / "val.images.npy", mmap_mode="r"), metadata)
        accuracy, unusual = {}, {}
        for file, model in ((fp32, classifier), (int8, opened(int8))):
            found = [model.predict(images.numpy()) for images, _ in test.in_order()]
            top = np.concatenate([f.probabilities.argmax(1) for f in found])
            accuracy[file.name] = float((top == labels).mean())
            unusual[file.name] = float(np.mean(np.concatenate([f.in_distribution for f in found]) < UNUSUAL))
        serve = int8 if accuracy[int8.name] >= accuracy[fp32.name] - INT8_MAY_LOSE else fp32
        report: dict[str, Any] = {
            "proof": proof,
            **{
                name: {
                    "accuracy": accuracy[file.name],
                    "unusual": unusual[file.name],
                    "bytes": file.stat().st_size,
                    "sha256": sha256(file),
                }
                for name, file in (("fp32", fp32), ("int8", int8))
            },
            "served": serve.name,
        }
        with whole_folder(models / "samples") as folder:
            sample = exhibits.write_samples(folder, splits, record["classes"])
        text = card.render(record, metrics, evaluation / "per_class.csv", calibration, report,
                           read_json(robust / "metrics.json"), sample)  # fmt: skip
        write_text(models / "README.md", text)
        write_json(models / "evaluation.json", exhibits.summary(evaluation, record["classes"]))
        write_bytes(models / "mistakes.png", (evaluation / "mistakes.png").read_bytes())
        # By the file that is served: int8's features are not quite those of fp32.
        judged = opened(serve).predict
        write_json(models / "reference.json", reference.describe(judged, splits["val"], calibration["threshold"]))
        write_json(models / "serve.json", {"file": serve.name})
        for file in (fp32, int8):
            write_bytes(models / file.name, file.read_bytes())
    with whole_folder(out) as folder:
        write_json(folder / "metrics.json", report)
    log(f"model.onnx agrees with torch on {proof['pictures']:,} pictures to {proof['max_difference']:.1e}; fp32 "
        f"{accuracy['model.onnx']:.2%} in {report['fp32']['bytes']:,} bytes, int8 {accuracy['model.int8.onnx']:.2%} in "
        f"{report['int8']['bytes']:,}; serving {serve.name}")  # fmt: skip


def opened(file: Path) -> Classifier:
    """The file as the app opens it.

    Raises:
        StageError: the app would refuse it.
    """
    try:
        return Classifier(file)
    except ModelError as error:
        raise StageError(f"the app does not take the exported file: {error}") from None


def describe(record: dict[str, Any], metrics: dict[str, Any], calibration: dict[str, Any]) -> dict[str, str]:
    """What the file says about itself. No path, time or user: the bytes are a function of the inputs."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))
    return {
        "class_names": json.dumps(record["classes"], ensure_ascii=False),
        "dataset": record["data"]["dataset"],
        "dataset_sha256": record["data"]["sha256"],
        "params": json.dumps(record["data"]["params"] | record["params"]),
        "metrics": json.dumps(metrics),
        "label_set": json.dumps({"coverage": calibration["coverage"], "threshold": calibration["threshold"]}),
        "distances": json.dumps(calibration["distances"]),
        "project_version": project["project"]["version"],
    }


def to_onnx(served: Served, size: int, metadata: dict[str, str]) -> bytes:
    """The graph as bytes, checked, with `metadata` and without the exporter's notes (absolute source paths)."""
    example = torch.zeros(2, size, size, dtype=torch.uint8)  # a batch of 1 would be taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            served,
            (example,),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"image": {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return finish(program.model_proto, metadata)


def finish(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    """Check a graph and write it with `metadata` alone: notes of the tools (stack traces, paths) are dropped."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def prove(classifier: Classifier, served: Served, test: batches.Split) -> dict[str, Any]:
    """Send the whole test split through the class that serves the file, and compare with torch.

    Raises:
        StageError: another top class on any picture, or a probability off by more than TOLERANCE.
    """
    disagreements, difference = 0, 0.0
    for images, _ in test.in_order():
        with torch.no_grad():
            expected = served(images)[0].numpy()
        found = classifier.predict(images.numpy()).probabilities
        disagreements += int((expected.argmax(1) != found.argmax(1)).sum())
        difference = max(difference, float(np.abs(expected - found).max()))
    if disagreements or not difference <= TOLERANCE:
        raise StageError(
            f"the exported file is not the network: another top class on {disagreements} of {len(test)} test pictures, "
            f"probabilities off by up to {difference:.2e} (allowed: 0 and {TOLERANCE:g}); nothing was exported"
        )
    return {"pictures": len(test), "other_top_class": disagreements, "max_difference": difference}


def quantise(source: Path, target: Path, pictures: NDArray[np.uint8], metadata: dict[str, str]) -> None:
    """Static int8: activations uint8, weights int8 per channel, ranges seen on `pictures`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Any] = iter(np.array_split(pictures[:CALIBRATION_PICTURES], 10))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None or not len(batch) else {"image": batch}

    folded = target.with_suffix(".folded")
    logging.disable(logging.WARNING)  # the quantiser comments on every step
    try:
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(target),
            Pictures(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Relu"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Weights of seven bits: with eight, processors without VNNI saturate sums of two products, which cost two
            # points of accuracy there (onnxruntime's documentation, "Quantize ONNX models", on reduce_range).
            reduce_range=True,
        )
    finally:
        logging.disable(logging.NOTSET)
        folded.unlink(missing_ok=True)
    write_bytes(target, finish(onnx.load(str(target)), metadata))


def main() -> None:
    """Run the stage on params.yaml."""
    pins.apply()
    export(
        Path("data/prepared"),
        Path("models/network.pt"),
        Path("reports/evaluation"),
        Path("reports/robustness"),
        Path("models"),
        Path("reports/export"),
        **params.of(export),
    )


if __name__ == "__main__":
    run(main)
