"""The site's hook, which mkdocs.yml names: links that leave docs/ for the repository, and the tables of the reference.

On GitHub `[names](../invoke.yaml)` opens the file. The site has no such file, so there it opens GitHub's; where nobody
knows the repository's address, only the words stay. What does not exist is left as it is, and the strict build fails.
"""

import os
import re
from pathlib import Path
from typing import Any

from deploy import reference

LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")
TABLE = re.compile(r"<!-- reference: (\w+) -->")


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Called by MkDocs for each page."""
    repository = Path(config["docs_dir"]).parent
    return rewrite(TABLE.sub(lambda found: reference.TABLES[found[1]](), markdown), repository, address())


def address() -> str:
    """Where the files of this commit are on GitHub; empty where no workflow says so."""
    if not (name := os.environ.get("GITHUB_REPOSITORY")):
        return ""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{name}/blob/{os.environ.get('GITHUB_SHA', 'main')}"


def rewrite(markdown: str, repository: Path, where: str) -> str:
    """Point links to files beside docs/ to `where`, or drop them if it is empty."""

    def one(link: re.Match[str]) -> str:
        words, path, anchor = link[1], link[2], link[3] or ""
        if not (repository / path).exists():
            return link[0]
        return f"[{words}]({where}/{path}{anchor})" if where else words

    return LINK.sub(one, markdown)
