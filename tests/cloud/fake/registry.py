"""Artifact Registry: which images are there."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request

HOST = r"artifactregistry\.googleapis\.com"
PLACE = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/repositories/(?P<repository>[^/]+)"


class Registry:
    """One repository.

    Attributes:
        images: names of images, as docker spells them, tag included.
    """

    def __init__(self, google: Google, images: set[str]) -> None:
        self.images = images
        google.route("GET", HOST, PLACE + r"/packages/(?P<package>[^/]+)/tags", self.tags)

    def tags(self, request: Request, project: str, region: str, repository: str, package: str) -> Any:
        image = f"{region}-docker.pkg.dev/{project}/{repository}/{package}:"
        found = sorted(name.removeprefix(image) for name in self.images if name.startswith(image))
        if not found:
            raise RefusedError(404, "NOT_FOUND", f'Package "{package}" was not found.')
        base = f"projects/{project}/locations/{region}/repositories/{repository}/packages/{package}"
        return {"tags": [{"name": f"{base}/tags/{t}", "version": f"{base}/versions/sha256:{'0' * 64}"} for t in found]}
