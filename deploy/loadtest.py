"""What locust's users do, in a process of locust's own: it patches the interpreter, and nothing else should be patched.

Each user sends one picture after the other, mostly as a form like curl, sometimes as JSON like a program, and waits a
moment between them. A user follows no redirect, so that nothing but the named address is loaded.
"""

import base64
import itertools
import os
from pathlib import Path

from locust import FastHttpUser, between, task

PICTURES = [file.read_bytes() for file in sorted(Path(os.environ["ATELIER_PICTURES"]).glob("*.png"))]
PAUSE = float(os.environ["ATELIER_PAUSE"])  # seconds between two requests of a user, on average
number = itertools.count()


class Visitor(FastHttpUser):
    """Sends pictures."""

    wait_time = between(PAUSE / 2, PAUSE * 3 / 2)
    network_timeout = connection_timeout = 30.0
    max_redirects = 0

    @task(4)
    def as_form(self) -> None:
        """A file of a form."""
        picture = PICTURES[next(number) % len(PICTURES)]
        self.client.post("/v1/predict", files={"files": ("garment.png", picture, "image/png")}, name="form")

    @task(1)
    def as_json(self) -> None:
        """Two pictures as JSON."""
        pictures = [PICTURES[next(number) % len(PICTURES)] for _ in range(2)]
        body = {"images": [base64.b64encode(picture).decode() for picture in pictures]}
        self.client.post("/v1/predict", json=body, name="JSON, two pictures")
