"""A strict stand-in for Google's APIs, for the real gcloud.

gcloud is told to reach every API over plain HTTP with this server as its proxy, so that a request keeps its host. A
route is a host, a method and a pattern; a request that no route knows is answered with 400, which gcloud does not
try again, and fails the test.
"""

import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class RefusedError(Exception):
    """An error as Google's APIs answer it."""

    def __init__(self, code: int, status: str, message: str, details: list[Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "status": status, "message": message, "details": details or []}}


@dataclass(frozen=True)
class Request:
    """What gcloud sent."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class Trap:
    """An answer that a test wants instead of the true one."""

    method: str
    pattern: str
    error: RefusedError
    times: int
    after: int


@dataclass
class Google:
    """The server: its routes, what was asked of it, and the traps that a test has set."""

    routes: list[tuple[str, str, str, Callable[..., Any]]] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    traps: list[Trap] = field(default_factory=list)

    def route(self, method: str, host: str, pattern: str, answer: Callable[..., Any]) -> None:
        """`answer(request, **groups)` for this host and path, both regular expressions."""
        self.routes.append((method, host, pattern, answer))

    def refuse(self, method: str, pattern: str, error: RefusedError, times: int = 1_000, after: int = 0) -> None:
        """Answer requests whose URL has the pattern with an error; the first `after` of them go through."""
        self.traps.append(Trap(method, pattern, error, times, after))

    def answer(self, request: Request) -> tuple[int, Any]:
        """Status and JSON for a request."""
        self.seen.append(request)
        for trap in self.traps:
            if trap.method == request.method and re.search(trap.pattern, request.host + request.path) and trap.times:
                if trap.after:
                    trap.after -= 1
                    continue
                trap.times -= 1
                return trap.error.code, trap.error.body
        for method, host, pattern, answer in self.routes:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method and re.fullmatch(host, request.host):
                try:
                    return 200, answer(request, **match.groupdict())
                except RefusedError as error:
                    return error.code, error.body
        self.unknown.append(f"{request.method} {request.host}{request.path}")
        return 400, {"error": {"code": 400, "status": "UNIMPLEMENTED", "message": self.unknown[-1]}}

    def serve(self) -> http.server.ThreadingHTTPServer:
        """Listen on a free port of this machine, in a thread."""
        google = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = dict(urllib.parse.parse_qsl(url.query))
                body = json.loads(content) if content.startswith(b"{") else content
                request = Request(self.command, url.hostname or "", urllib.parse.unquote(url.path), query, body)
                status, value = google.answer(request)
                answer = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
