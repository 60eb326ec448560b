"""Links that leave the repository, asked of servers of this machine."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import links
from tests.conftest import ROOT


@pytest.fixture
def address() -> Iterator[str]:
    """A server that answers /200 with 200, and so on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.removeprefix("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("status", "is_dead"), [(200, False), (403, False), (429, False), (404, True), (410, True)])
def test_what_leads_nowhere_is_named_with_its_page(address: str, status: int, is_dead: bool, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"See [this]({address}/{status}#part), and [that]({address}/200).")
    found = links.external([page])
    assert found == {f"{address}/{status}": ["page.md"]} | {f"{address}/200": found[f"{address}/200"]}
    lines = links.dead(found)
    assert len(lines) == is_dead
    if is_dead:
        assert lines[0].startswith(f"{address}/{status} (page.md): {status} ")


def test_where_nobody_listens_the_reason_is_said() -> None:
    assert "refused" in links.ask("http://127.0.0.1:9/").lower()


def test_the_pages_have_such_links() -> None:
    found = links.external([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert "https://cloud.google.com/run/pricing" in found
    assert all(pages for pages in found.values())
