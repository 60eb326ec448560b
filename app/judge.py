"""A file in, an answer out, counted: what the REST routes and the page do alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.classifier import Classifier, Prediction
from app.feedback import Feedback
from app.monitor import Monitor
from app.pictures import PictureError, decode, to_model_input
from app.traffic import Traffic
from app.watch import REQUEST, Metrics


class Judge:
    """The classifier with the reading of pictures before it and the counting behind it.

    Attributes:
        classifier: what answers.
        max_bytes: the largest picture file accepted.
        monitor: sees what was answered; or the sentence that says why there is none.
        traffic: writes it down, if it is to be.
        feedback: takes what users say the right class is, if it is to be.
        version: of the model in the registry, such as v1.2.0; of the project that exported it, where none is known;
            and empty where nobody has said.
    """

    def __init__(
        self,
        classifier: Classifier,
        max_bytes: int,
        metrics: Metrics,
        version: str = "",
        monitor: Monitor | str = "No drift is told.",
        traffic: Traffic | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        self.classifier = classifier
        self.max_bytes = max_bytes
        self.version = version
        self.monitor = monitor
        self.traffic = traffic
        self.feedback = feedback
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
        if self.traffic:
            self.traffic.observe(pictures, prediction, REQUEST.get())
        return prediction
