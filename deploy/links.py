"""Links of README and docs that leave the repository: `uv run invoke docs --external` asks each of them.

Links within the site are checked by its strict build, without network.
"""

import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LINK = re.compile(r"\]\((https?://[^)\s]+)\)")
AGENT = "Mozilla/5.0 (compatible; atelier-docs)"  # without one, many a site refuses
TIMEOUT = 20  # seconds
AT_ONCE = 8
# The page is there, and is not shown to programs, or not now.
SHY = {401, 403, 405, 406, 429, 503}


def external(pages: Iterable[Path]) -> dict[str, list[str]]:
    """Address -> the pages that link to it."""
    found: dict[str, list[str]] = {}
    for page in pages:
        for address in LINK.findall(page.read_text(encoding="utf-8")):
            found.setdefault(address.partition("#")[0], []).append(page.name)
    return found


def dead(links: dict[str, list[str]]) -> list[str]:
    """What leads nowhere, a line each, with the pages that say it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = zip(links, pool.map(ask, links), strict=True)
        return [f"{address} ({', '.join(sorted(set(links[address])))}): {why}" for address, why in said if why]


def ask(address: str) -> str:
    """Why an address leads nowhere; empty if it leads somewhere."""
    request = urllib.request.Request(address, headers={"User-Agent": AGENT})  # noqa: S310 - LINK lets only http in
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code in SHY else f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
