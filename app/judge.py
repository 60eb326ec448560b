"""A file in, an answer out, counted: what the REST routes and the page do alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.classifier import Classifier, Prediction
from app.monitor import Monitor
from app.pictures import PictureError, decode, to_model_input
from app.watch import Metrics


class Judge:
    """The classifier with the reading of pictures before it and the counting behind it.

    Attributes:
        classifier: what answers.
        max_bytes: the largest picture file accepted.
        monitor: sees what was answered; or the sentence that says why there is none.
        version: of the model in the registry, such as v1.2.0; of the project that exported it, where none is known.
    """

    def __init__(
        self,
        classifier: Classifier,
        max_bytes: int,
        metrics: Metrics,
        version: str = "",
        monitor: Monitor | str = "No drift is told.",
    ) -> None:
        self.classifier = classifier
        self.max_bytes = max_bytes
        self.version = version or str(classifier.metadata.get("project_version", ""))
        self.monitor = monitor
        self._metrics = metrics

    def see(self, data: bytes) -> npt.NDArray[np.uint8]:
        """A picture file as the model sees it, uint8 [H, W].

        Raises:
            PictureError: it was refused.
        """
        try:
            return to_model_input(decode(data, self.max_bytes), self.classifier.image_size)
        except PictureError as error:
            self._metrics.refused(error.status)
            raise

    def predict(self, pictures: npt.NDArray[np.uint8]) -> Prediction:
        """Classify pictures uint8 [N, H, W]."""
        prediction = self.classifier.predict(pictures)
        self._metrics.classified(prediction.probabilities, prediction.in_distribution)
        if isinstance(self.monitor, Monitor):
            self.monitor.observe(pictures, prediction)
        return prediction
