"""Cloud Build, and the bucket's objects: those in which a build gets its files, and those that a run leaves."""

import json
import re
from typing import Any

from tests.cloud.fake import Google, RefusedError, Request

STORAGE = r"storage\.googleapis\.com"
BUCKET = r"/storage/v1/b/(?P<bucket>[^/]+)"
BUILDS = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/builds"


class Objects:
    """A bucket's objects, for `gcloud storage cat` and for what `gcloud builds submit` uploads.

    Attributes:
        held: what an object holds, by its gs:// address: JSON, or the bytes that were uploaded.
    """

    def __init__(self, google: Google, bucket: str) -> None:
        self.bucket = bucket
        self.held: dict[str, Any] = {}
        google.route("GET", STORAGE, BUCKET, self.get_bucket)
        google.route("GET", STORAGE, BUCKET + "/o", self.list_objects)
        google.route("GET", STORAGE, "(?:/download)?" + BUCKET + "/o/(?P<name>.+)", self.get)
        google.route("POST", STORAGE, "/upload" + BUCKET + "/o", self.upload)

    def get_bucket(self, request: Request, bucket: str) -> Any:
        if bucket != self.bucket:
            raise RefusedError(404, "NOT_FOUND", "The specified bucket does not exist.")
        return {"kind": "storage#bucket", "id": bucket, "name": bucket, "projectNumber": "123456789"}

    def list_objects(self, request: Request, bucket: str) -> Any:
        self.get_bucket(request, bucket)
        places = [place.partition(f"gs://{bucket}/") for place in self.held]
        found = [name for _, _, name in places if name.startswith(request.query.get("prefix", ""))]
        return {"kind": "storage#objects", "items": [self.described(bucket, name) for name in found]}

    def get(self, request: Request, bucket: str, name: str) -> Any:
        self.get_bucket(request, bucket)
        if f"gs://{bucket}/{name}" not in self.held:
            raise RefusedError(404, "NOT_FOUND", f"No such object: {bucket}/{name}")
        media = request.query.get("alt") == "media"
        return self.held[f"gs://{bucket}/{name}"] if media else self.described(bucket, name)

    def upload(self, request: Request, bucket: str) -> Any:
        self.get_bucket(request, bucket)
        name = request.query["name"]
        mark = request.body.partition(b"\n")[0]
        media = request.body.split(mark)[2]
        self.held[f"gs://{bucket}/{name}"] = media.partition(b"\n\n")[2].removesuffix(b"\n")
        return self.described(bucket, name)

    def described(self, bucket: str, name: str) -> Any:
        link = f"http://storage.googleapis.com/download/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}?alt=media"
        held = self.held[f"gs://{bucket}/{name}"]
        size = f"{len(held if isinstance(held, bytes) else json.dumps(held))}"
        what = {"kind": "storage#object", "bucket": bucket, "name": name, "generation": "1"}
        return {**what, "size": size, "mediaLink": link}


class Build:
    """The builds of one project: each becomes an image in the registry, or ends as a test has it.

    Attributes:
        images: of the registry, where a build that succeeds puts what it made.
        status: with which the builds end.
        builds: the newest last.
    """

    def __init__(self, google: Google, objects: Objects, images: set[str], accounts: set[str]) -> None:
        self.objects = objects
        self.images = images
        self.accounts = accounts
        self.status = "SUCCESS"
        self.builds: list[Any] = []
        google.route("POST", r"cloudbuild\.googleapis\.com", BUILDS, self.create)
        google.route("GET", r"cloudbuild\.googleapis\.com", BUILDS + "/(?P<number>[^/]+)", self.get)

    def create(self, request: Request, project: str, region: str) -> Any:
        build, number = request.body, f"00000000-0000-0000-0000-{len(self.builds):012}"
        source = build["source"]["storageSource"]
        if f"gs://{source['bucket']}/{source['object']}" not in self.objects.held:
            raise RefusedError(404, "NOT_FOUND", f"the source {source['object']} does not exist")
        if build["serviceAccount"].rpartition("/")[2] not in self.accounts:
            raise RefusedError(400, "INVALID_ARGUMENT", f"service account {build['serviceAccount']} does not exist")
        made = {
            **build,
            "id": number,
            "projectId": project,
            "status": "QUEUED",
            "logUrl": "https://console.invalid/log",
        }
        made["name"] = f"projects/{project}/locations/{region}/builds/{number}"
        made["createTime"] = "2026-11-25T00:00:00Z"
        self.builds.append(made)
        kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
        return {"name": f"operations/build/{project}/{number}", "metadata": {"@type": kind, "build": made}}

    def get(self, request: Request, project: str, region: str, number: str) -> Any:
        build = next((build for build in self.builds if build["id"] == number), None)
        if build is None:
            raise RefusedError(404, "NOT_FOUND", f"Build {number} does not exist")
        build["status"] = self.status
        if self.status == "SUCCESS":
            self.images |= {self.filled(build, image) for image in build["images"]}
        return build

    def filled(self, build: Any, text: str) -> str:
        """A text with the build's substitutions."""
        return re.sub(r"\$\{(\w+)\}", lambda match: build["substitutions"][match[1]], text)
