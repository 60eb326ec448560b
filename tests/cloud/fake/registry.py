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
        google.route("GET", HOST, PLACE, self.repository)
        google.route("GET", HOST, PLACE + r"/packages/(?P<package>[^/]+)/tags/(?P<tag>[^/]+)", self.tag)
        google.route("GET", HOST, PLACE + r"/dockerImages/(?P<image>[^/]+)", self.image)

    def repository(self, request: Request, project: str, region: str, repository: str) -> Any:
        name = f"projects/{project}/locations/{region}/repositories/{repository}"
        return {"name": name, "format": "DOCKER", "mode": "STANDARD_REPOSITORY"}

    def tag(self, request: Request, project: str, region: str, repository: str, package: str, tag: str) -> Any:
        if f"{region}-docker.pkg.dev/{project}/{repository}/{package}:{tag}" not in self.images:
            raise RefusedError(404, "NOT_FOUND", f'Tag "{tag}" was not found.')
        base = f"projects/{project}/locations/{region}/repositories/{repository}/packages/{package}"
        return {"name": f"{base}/tags/{tag}", "version": f"{base}/versions/sha256:{'0' * 64}"}

    def image(self, request: Request, project: str, region: str, repository: str, image: str) -> Any:
        base = f"projects/{project}/locations/{region}/repositories/{repository}"
        return {
            "name": f"{base}/dockerImages/{image}",
            "uri": f"{region}-docker.pkg.dev/{project}/{repository}/{image}",
        }
