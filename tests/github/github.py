"""A stand-in for GitHub's API, on loopback, and one for its client where there is none.

The real `gh` is sent here as through a proxy: for the host github.localhost it speaks plain HTTP.
"""

import http.server
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

COMMENTS = re.compile(r"/repos/owner/name/issues/7/comments(?:\?per_page=(\d+))?(?:&page=(\d+))?$")
ONE = re.compile(r"/repos/owner/name/issues/comments/(\d+)$")

# It takes what comment.py says, and nothing else.
CLIENT = """\
#!{python}
import argparse, json, os, sys, urllib.error, urllib.request
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["api"])
parser.add_argument("--method", default="GET")
parser.add_argument("--input")
parser.add_argument("--paginate", action="store_true")
parser.add_argument("--slurp", action="store_true")
parser.add_argument("path")
given = parser.parse_args()
pages, page = [], 1
while True:
    data = open(given.input, "rb").read() if given.input else None
    more = "?per_page=100&page=%d" % page if given.paginate else ""
    where = os.environ["http_proxy"] + "/" + given.path + more
    request = urllib.request.Request(where, data, method=given.method)
    request.add_header("Authorization", "token " + os.environ["GH_TOKEN"])
    try:
        answer = json.load(urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request))
    except urllib.error.HTTPError as error:
        sys.exit("gh: " + json.load(error)["message"] + " (HTTP %d)" % error.code)
    pages.append(answer)
    page += 1
    if not given.paginate or len(answer) < 100:
        break
print(json.dumps(pages if given.slurp else answer))
"""


class GitHub:
    """The comments of pull request 7 of owner/name; any other route is refused, and remembered."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.refuse = ""
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def say(self, body: str) -> None:
        """A comment by somebody."""
        number = 1000 + len(self.comments)
        address = f"https://github.test/owner/name/pull/7#issuecomment-{number}"
        self.comments.append({"id": number, "body": body, "html_url": address})

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuse:
            return 403, {"message": self.refuse}
        if method == "GET" and (match := COMMENTS.match(path)):
            size, page = int(match[1] or 30), int(match[2] or 1)
            return 200, self.comments[(page - 1) * size : page * size]
        if method == "POST" and path == "/repos/owner/name/issues/7/comments":
            self.say(body["body"])
            return 201, self.comments[-1]
        if method == "PATCH" and (match := ONE.match(path)):
            found = next(comment for comment in self.comments if comment["id"] == int(match[1]))
            found["body"] = body["body"]
            return 200, found
        self.unknown.append(f"{method} {path}")
        return 404, {"message": "Not Found"}


def handler(github: GitHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            assert self.headers["Authorization"] == "token secret"
            path = self.path.removeprefix("http://api.github.localhost")  # as a proxy is asked
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = github.answer(self.command, path, json.loads(sent) if sent else None)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            size, _, page = path.partition("per_page=")[2].partition("&page=")
            if self.command == "GET" and status == 200 and len(said) == int(size or 30):
                there = path.partition("?")[0]
                after = f"http://api.github.localhost{there}?per_page={size or 30}&page={int(page or 1) + 1}"
                self.send_header("Link", f'<{after}>; rel="next"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def client(which: str, github: GitHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a client on the PATH that talks to the stand-in: `gh` itself, or ours."""
    if which == "gh" and shutil.which("gh") is None:
        pytest.skip("gh is not on the PATH: only a stand-in for it is tried")
    if which == "stand-in":
        if os.name == "nt":
            pytest.skip("the stand-in for gh is a script that Windows cannot start")
        program = folder / "bin/gh"
        program.parent.mkdir()
        program.write_text(CLIENT.format(python=sys.executable))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    monkeypatch.setenv("GH_HOST", "github.localhost")
    monkeypatch.setenv("GH_CONFIG_DIR", str(folder / "gh"))
    monkeypatch.setenv("GH_TOKEN", "secret")
    monkeypatch.setenv("http_proxy", github.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
