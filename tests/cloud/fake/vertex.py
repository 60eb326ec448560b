"""Vertex AI's custom jobs, which walk from state to state as a test has it, and the log that they write."""

import re
from typing import Any

from tests.cloud.fake import Google, RefusedError, Request

HOST = r"(?P<region>[a-z]+-[a-z]+\d+)-aiplatform\.googleapis\.com"
JOBS = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/customJobs"
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


class Vertex:
    """The jobs of one project.

    Attributes:
        images: that are in the registry; a job with another is refused.
        accounts: service accounts that there are.
        quota: how many GPUs of a type the project may have.
        course: the states of a job, one more each time that somebody asks; the last one stays.
        courses: the same for jobs by their display name, where they differ.
        error: what a job says that ends otherwise than well.
        log: its lines. A job with a log does not end before the log was read.
        jobs: the newest first, as lists give them.
    """

    def __init__(self, google: Google, images: set[str], accounts: set[str]) -> None:
        self.images = images
        self.accounts = accounts
        self.quota: dict[str, int] = {}
        self.course = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.courses: dict[str, list[str]] = {}
        self.error = ""
        self.log: list[str] = []
        self.log_read = False
        self.jobs: list[Any] = []
        self.most_open = 0
        google.route("POST", HOST, JOBS, self.create)
        google.route("GET", HOST, JOBS, self.list_jobs)
        google.route("GET", HOST, JOBS + r"/(?P<number>\d+)", self.get)
        google.route("POST", HOST, JOBS + r"/(?P<number>\d+):cancel", self.cancel)
        google.route("POST", r"logging\.googleapis\.com", "/v2/entries:list", self.entries)

    def create(self, request: Request, project: str, region: str) -> Any:
        spec = parsed(request.body)["jobSpec"]
        self.check(spec, project)
        number = f"{10**18 + len(self.jobs)}"
        job = {
            **request.body,
            "name": f"projects/123456789/locations/{region}/customJobs/{number}",
            "state": f"JOB_STATE_{self.course_of(request.body)[0]}",
            "createTime": f"2026-11-25T00:00:{len(self.jobs):02}Z",
        }
        self.jobs.insert(0, job)
        self.most_open = max(self.most_open, len(self.open()))
        return job

    def check(self, spec: Any, project: str) -> None:
        """What Vertex looks at before it takes a job."""
        pools = spec["workerPoolSpecs"]
        if int(pools[0].get("replicaCount", 0)) != 1:
            invalid("worker_pool_specs[0].replica_count", "The first worker pool has to have exactly one replica.")
        wanted: dict[str, int] = {}
        for place, pool in enumerate(pools):
            image, machine = pool["containerSpec"]["imageUri"], pool["machineSpec"]
            if image not in self.images:
                invalid(f"worker_pool_specs[{place}].container_spec.image_uri", f"Image '{image}' not found.")
            gpu, count = machine.get("acceleratorType", ""), machine.get("acceleratorCount", 0)
            if bool(gpu) != bool(count):
                invalid(f"worker_pool_specs[{place}].machine_spec", "An accelerator has a type and a count.")
            if gpu:
                wanted[gpu] = wanted.get(gpu, 0) + count * int(pool["replicaCount"])
        if spec.get("serviceAccount") not in self.accounts:
            raise RefusedError(
                400, "INVALID_ARGUMENT", f"Service account `{spec.get('serviceAccount')}` does not exist."
            )
        if not re.fullmatch(r"gs://[a-z0-9-]+/.+", spec["baseOutputDirectory"]["outputUriPrefix"]):
            invalid("base_output_directory", "It has to be a Cloud Storage URI.")
        for gpu, count in wanted.items():
            if count > self.quota.get(gpu, 0):
                metric = f"aiplatform.googleapis.com/custom_model_training_{gpu.lower().replace('tesla_', '')}_gpus"
                message = f"The following quota metrics exceed quota limits: {metric}"
                raise RefusedError(429, "RESOURCE_EXHAUSTED", message)

    def get(self, request: Request, project: str, region: str, number: str) -> Any:
        job = self.find(number)
        self.step(job)
        return job

    def list_jobs(self, request: Request, project: str, region: str) -> Any:
        for job in self.jobs:
            self.step(job)
        return {"customJobs": self.jobs}

    def cancel(self, request: Request, project: str, region: str, number: str) -> Any:
        job = self.find(number)
        self.courses[job["displayName"]] = ["CANCELLED"]
        self.step(job)
        return {}

    def entries(self, request: Request) -> Any:
        match = re.search(r'resource\.labels\.job_id="(\d+)"', request.body["filter"])
        assert match, request.body
        self.find(match[1])
        if self.log_read:
            return {}
        self.log_read = True
        resource = {"type": "ml_job", "labels": {"job_id": match[1], "task_name": "workerpool0-0"}}
        stamp = "2026-11-25T00:00:00Z"
        return {
            "entries": [
                {
                    "insertId": f"{place}",
                    "timestamp": stamp,
                    "severity": "INFO",
                    "resource": resource,
                    "textPayload": line,
                }
                for place, line in enumerate(self.log)
            ]
        }

    def find(self, number: str) -> Any:
        for job in self.jobs:
            if job["name"].endswith(f"/{number}"):
                return job
        raise RefusedError(404, "NOT_FOUND", f"The CustomJob customJobs/{number} does not exist.")

    def course_of(self, job: Any) -> list[str]:
        return self.courses.setdefault(job["displayName"], [*self.course])

    def step(self, job: Any) -> None:
        """One state on."""
        course = self.course_of(job)
        if len(course) > 1 and not (course[1] in ENDED and self.log and not self.log_read):
            course.pop(0)
        job["state"] = f"JOB_STATE_{course[0]}"
        if course[0] in ENDED:
            job["endTime"] = "2026-11-25T01:00:00Z"  # by which gcloud knows that the log has an end
        if course[0] == "FAILED" and self.error:
            job["error"] = {"code": 3, "message": self.error}

    def open(self) -> list[str]:
        """The runs whose jobs are not at their end."""
        return [job["displayName"] for job in self.jobs if job["state"].removeprefix("JOB_STATE_") not in ENDED]


def parsed(body: Any) -> Any:
    """The body as Google's own definition reads it: a key or a value that it does not know is refused.

    gcloud sends both on as they stand in the file.
    """
    from google.cloud.aiplatform_v1 import CustomJob  # takes seconds to import
    from google.protobuf import json_format

    try:
        message = json_format.ParseDict(body, CustomJob.pb(CustomJob()))
    except json_format.ParseError as error:
        raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    for key, value in message.labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise RefusedError(400, "INVALID_ARGUMENT", f"Label {key}={value} is not allowed.")
    return json_format.MessageToDict(message)


def invalid(field: str, message: str) -> None:
    raise RefusedError(
        400, "INVALID_ARGUMENT", f"List of found errors:\t1.Field: job_spec.{field}; Message: {message}\t"
    )
