"""The real gcloud, signed in to nothing, talking to the fake Google."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.names import Names
from tests.cloud.fake import Google

SERVICES = (
    "aiplatform", "artifactregistry", "cloudbuild", "cloudresourcemanager", "iam", "logging", "monitoring", "run",
    "serviceusage",
)  # fmt: skip
PROJECT = "demo-project"
GCP = {
    "project": PROJECT, "region": "europe-west1", "bucket": "", "repository": "atelier", "github": "",
    "trainer": "atelier-trainer", "app": "atelier-app", "deployer": "atelier-deployer", "machine": "n1-standard-8",
    "gpu": "", "gpus": 1, "nodes": 1, "service": "atelier", "cpu": 1, "memory": "1Gi", "concurrency": 16,
    "min_instances": 0, "max_instances": 3, "public": True, "traffic_log": True, "feedback": "",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts gcloud, a second each time and a dozen times a test, is slow."""
    for item in items:
        if "cloud" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def names() -> Names:
    return Names.of(GCP)


@dataclass(frozen=True)
class Cloud:
    """The fake and the environment in which gcloud reaches it."""

    google: Google
    environment: dict[str, str]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """gcloud's environment is set for this process too; at the end, no unknown route may have been asked for."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not on the PATH: only what it would be told is tested")
    google = Google()
    server = google.serve()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    environment = {
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "http_proxy": address,
        "HTTP_PROXY": address,
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": "http://storage.googleapis.com/storage/v1/",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{s.upper()}": f"http://{s}.googleapis.com/" for s in SERVICES},
    }
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    yield Cloud(google, {**os.environ})
    server.shutdown()
    server.server_close()
    assert google.unknown == []
