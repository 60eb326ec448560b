"""An exported model file as an object: pictures in; calibrated probabilities, heat maps, label sets out.

Knows no HTTP and no torch. ``stages/export.py`` proves a new file with this very class before the file
counts, so what is measured there is what is served here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

INPUT = "image"
OUTPUTS = ("probabilities", "heatmap", "distance", "projection")
PROJECTIONS = 8  # directions along which the features are looked at
UNUSUAL = 0.01  # a picture whose `in_distribution` is below is unlike what the model learnt from
CHUNK = 256  # pictures a run of the graph: large enough to be fast, small enough that memory stays flat
JSON_KEYS = ("class_names", "params", "metrics", "label_set", "distances")  # metadata whose strings are JSON


class ModelError(Exception):
    """The model file cannot be used; the message is one line for a person."""


class ModelMissingError(ModelError):
    """There is no model where one was looked for."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about N pictures.

    Attributes:
        probabilities: float32 [N, K], calibrated; a row sums to 1.
        heatmaps: float32 [N, h, w], the evidence for the top class, in no particular unit.
        in_distribution: float32 [N], 0 to 1: the share of validation pictures that are as unusual as this one or more.
        projections: float32 [N, 8], the features along directions drawn at random, to tell drift by.
    """

    probabilities: npt.NDArray[np.float32]
    heatmaps: npt.NDArray[np.float32]
    in_distribution: npt.NDArray[np.float32]
    projections: npt.NDArray[np.float32]


class Classifier:
    """A model file, loaded, checked and tried on a blank picture.

    Attributes:
        path: the file.
        sha256: hash of the bytes that were loaded, in hex.
        metadata: what the file says about itself: ``dataset``, ``dataset_sha256`` and ``project_version`` as
            strings; ``params``, ``metrics``, ``label_set``, ``distances`` and ``class_names`` decoded from JSON.
        class_names: the K classes, in the order of the probabilities.
        image_size: height and width of a picture, in pixels.
        coverage: the share of pictures whose label set holds the true class, as promised by the evaluation.
        threshold: the least probability that brings a class into the label set.

    One instance may be used from several threads at once.
    """

    def __init__(self, path: str | Path) -> None:
        """Loads ``path``.

        Raises:
            ModelMissingError: there is no such file.
            ModelError: the file is damaged, or is no model that this project exported.
        """
        self.path = Path(path)
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            raise ModelMissingError(f"there is no model file {self.path}") from None
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror}") from None
        # Hash and session are made of the same bytes, so the hash names the model that answers even
        # when the file is replaced later.
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._session = _open_session(content, self.path)
        self.image_size = self._read_signature()
        self.metadata = self._read_metadata()
        self.class_names = self._read_class_names()
        self.coverage, self.threshold = self._read_label_set()
        self._distances = self._read_distances()
        self._shares = np.linspace(1, 0, self._distances.size)
        self._heatmap_size = self._try_blank()

    @classmethod
    def from_directory(cls, models_dir: str | Path) -> Classifier:
        """Loads the model that ``serve.json`` in ``models_dir`` names.

        Raises:
            ModelMissingError: no directory, no ``serve.json`` or no file of that name.
            ModelError: ``serve.json`` or the model file cannot be used.
        """
        pointer = Path(models_dir) / "serve.json"
        try:
            name = json.loads(pointer.read_bytes())["file"]
        except (FileNotFoundError, NotADirectoryError):
            raise ModelMissingError(f"there is no {pointer}") from None
        except OSError as error:
            raise ModelError(f"{pointer} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise ModelError(f'{pointer} should read like {{"file": "model.onnx"}}') from None
        # A name and not a path: what is served lies beside serve.json.
        if not isinstance(name, str) or not name or name != Path(name).name:
            raise ModelError(f"{pointer} should name a file beside it, not {name!r}")
        return cls(pointer.with_name(name))

    def predict(self, images: npt.NDArray[np.uint8]) -> Prediction:
        """Classifies pictures, any number of them.

        Args:
            images: uint8 [N, H, W], light garment on black, H and W as in ``image_size``; N may be 0.

        Raises:
            ValueError: another dtype or shape; says what was expected and what came.
        """
        expected = f"uint8 [N, {self.image_size[0]}, {self.image_size[1]}]"
        if not isinstance(images, np.ndarray):
            raise ValueError(f"expected a NumPy array {expected}, got {type(images).__name__}")
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != self.image_size:
            raise ValueError(f"expected {expected}, got {images.dtype} {list(images.shape)}")
        probabilities = np.empty((len(images), len(self.class_names)), np.float32)
        heatmaps = np.empty((len(images), *self._heatmap_size), np.float32)
        distances = np.empty(len(images), np.float32)
        projections = np.empty((len(images), PROJECTIONS), np.float32)
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            probabilities[part], heatmaps[part], distances[part], projections[part] = self._run(images[part])
        return Prediction(probabilities, heatmaps, self._share_as_far(distances), projections)

    def label_set(self, probabilities: npt.NDArray[np.float32] | Sequence[float]) -> list[int]:
        """The top class and all at the threshold or above; the truth is among them as often as ``coverage``.

        Args:
            probabilities: [K], one row of ``Prediction.probabilities``.

        Returns:
            Class indices, most probable first; never empty.

        Raises:
            ValueError: not one probability per class.
        """
        row = np.asarray(probabilities, np.float32)
        if row.shape != (len(self.class_names),):
            raise ValueError(f"expected {len(self.class_names)} probabilities, got shape {list(row.shape)}")
        order = np.argsort(-row, kind="stable")
        size = max(1, int(np.count_nonzero(row >= np.float32(self.threshold))))
        return [int(index) for index in order[:size]]

    def _run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        return self._session.run(OUTPUTS, {INPUT: np.ascontiguousarray(images)})

    def _share_as_far(self, distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.interp(distances, self._distances, self._shares).astype(np.float32)

    def _foreign(self, reason: str) -> ModelError:
        return ModelError(f"{self.path} is not a model exported by this project: {reason}")

    def _read_signature(self) -> tuple[int, int]:
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name for node in self._session.get_outputs()}
        if list(inputs) != [INPUT] or not set(OUTPUTS) <= outputs:
            found = f"it takes {', '.join(inputs)} and gives {', '.join(sorted(outputs))}"
            raise self._foreign(f"{found}, not {INPUT} to {', '.join(OUTPUTS)}")
        node = inputs[INPUT]
        sizes = node.shape[1:]
        if node.type != "tensor(uint8)" or len(sizes) != 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise self._foreign(f"its input is {node.type} {node.shape}, not uint8 [N, height, width]")
        return sizes[0], sizes[1]

    def _read_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = dict(self._session.get_modelmeta().custom_metadata_map)
        for key in JSON_KEYS:
            if key in metadata:
                try:
                    metadata[key] = json.loads(metadata[key])
                except ValueError:
                    raise self._foreign(f"{key!r} in its metadata is not JSON") from None
        return metadata

    def _read_class_names(self) -> tuple[str, ...]:
        names = self.metadata.get("class_names")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self._foreign("its metadata has no list 'class_names'")
        return tuple(names)

    def _read_label_set(self) -> tuple[float, float]:
        try:
            label_set = self.metadata["label_set"]
            coverage, threshold = float(label_set["coverage"]), float(label_set["threshold"])
        except (KeyError, TypeError, ValueError):
            raise self._foreign("its metadata has no 'label_set' with coverage and threshold") from None
        if not (0 < coverage <= 1 and 0 <= threshold <= 1):
            raise self._foreign(f"coverage {coverage} and threshold {threshold} should lie between 0 and 1")
        return coverage, threshold

    def _read_distances(self) -> npt.NDArray[np.float64]:
        try:
            distances = np.array(self.metadata["distances"], np.float64)
        except (KeyError, TypeError, ValueError):
            distances = np.empty(0)
        if distances.ndim != 1 or distances.size < 2 or not (np.diff(distances) >= 0).all():
            raise self._foreign("its metadata has no rising list 'distances'")
        return distances

    def _try_blank(self) -> tuple[int, int]:
        """Runs the graph once, to refuse a file that cannot answer at start; returns the heat map's size."""
        try:
            outputs = self._run(np.zeros((2, *self.image_size), np.uint8))
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base class
            raise ModelError(f"{self.path} does not answer: {_one_line(error)}") from None
        shapes = [list(output.shape) for output in outputs]
        size = shapes[1][1:]
        if len(size) != 2 or shapes != [[2, len(self.class_names)], [2, *size], [2], [2, PROJECTIONS]]:
            wanted = f"[[2, {len(self.class_names)}], [2, h, w], [2], [2, {PROJECTIONS}]]"
            raise self._foreign(f"two pictures give {shapes}, not {wanted}")
        return size[0], size[1]


def _open_session(content: bytes, path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One request, one thread: a pool of spinning threads halves the throughput of a busy machine.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised; the log would say it a second time
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base class
        raise ModelError(f"{path} is damaged or no ONNX model: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
