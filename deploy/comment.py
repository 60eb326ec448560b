"""Puts a report into a pull request: one comment, written anew at each run, with its pictures.

A comment shows only pictures that have an address. GitHub has no call that uploads one, and artifacts are zip files
behind a login; so the pictures go to a branch of their own, which shares no history with the code, and are
addressed by the commit that holds them. For that the token needs `contents: write`, and for the comment
`pull-requests: write`: the job that has both runs the code of the base branch, never the pull request's.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from deploy.gcloud import Argv, CloudError, located

BRANCH = "reports"
MARK = "<!-- atelier: report -->"  # by which the comment of an earlier run is found
TRIES = 5  # pushes, while other pull requests push too
PICTURE = re.compile(r"!\[([^\]]*)\]\(([\w-]+\.png)\)")
LARGEST = 2_000_000  # bytes of a picture
LONGEST = 65_000  # characters of a comment; GitHub takes 65,536
REPORT = "report.md"


def post(folder: Path, number: int, repository: str, server: str = "https://github.com") -> str:
    """Post or rewrite the comment of a pull request.

    Args:
        folder: `report.md` and the pictures it names.
        number: of the pull request.
        repository: `owner/name`.
        server: where GitHub is.

    Returns:
        The comment's address.

    Raises:
        CloudError: why not.
    """
    try:
        text = (folder / REPORT).read_text(encoding="utf-8")
    except OSError:
        raise CloudError(f"{folder}/ holds no {REPORT}: type `uv run invoke report --plots {folder}` first") from None
    pictures = [folder / name for _, name in PICTURE.findall(text) if (folder / name).is_file()]
    if large := [file.name for file in pictures if file.stat().st_size > LARGEST]:
        raise CloudError(f"too large for a comment, over {LARGEST / 1e6:.0f} MB: {', '.join(large)}")
    commit = push(pictures, f"pull-request-{number}") if pictures else ""
    there = {file.name for file in pictures}
    address = f"{server}/{repository}/raw/{commit}/pull-request-{number}"
    body = PICTURE.sub(lambda m: f"![{m[1]}]({address}/{m[2]})" if m[2] in there else "", text)
    if len(body) > LONGEST:
        body = body[:LONGEST] + "\n\n…and more: see the run's artifact `report`.\n"
    return _write(f"{MARK}\n{body}", number, repository)


def push(files: list[Path], folder: str) -> str:
    """Put files into a folder of the branch `reports`, in place of what is there; return the commit.

    The work tree and the index of the person are not touched.

    Raises:
        CloudError: the push was refused, again and again.
    """
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch) / "index"), **_author()}
        said = ""
        for _ in range(TRIES):
            fetched = _git("fetch", "--quiet", "--depth=1", "origin", f"refs/heads/{BRANCH}", env=env)
            parent = _must("rev-parse", "FETCH_HEAD", env=env) if fetched.returncode == 0 else ""
            _must("read-tree", *([parent] if parent else ["--empty"]), env=env)
            _must("rm", "--quiet", "--cached", "--force", "-r", "--ignore-unmatch", "--", folder, env=env)
            for file in files:
                blob = _must("hash-object", "-w", "--no-filters", "--", str(file.resolve()), env=env)
                _must("update-index", "--add", "--cacheinfo", f"100644,{blob},{folder}/{file.name}", env=env)
            tree = _must("write-tree", env=env)
            parents = ["-p", parent] if parent else []
            commit = _must("commit-tree", tree, *parents, "-m", f"Pictures of {folder}", env=env)
            pushed = _git("push", "--quiet", "origin", f"{commit}:refs/heads/{BRANCH}", env=env)
            if pushed.returncode == 0:
                return commit
            said = " ".join(pushed.stderr.split())
    raise CloudError(f"the pictures could not be pushed to the branch {BRANCH}: {said[:300]}")


def _write(body: str, number: int, repository: str) -> str:
    comments = f"repos/{repository}/issues/{number}/comments"
    listed = _gh(["gh", "api", "--paginate", "--slurp", comments])
    ours = [comment for page in listed for comment in page if comment["body"].startswith(MARK)]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "body.json"
        file.write_text(json.dumps({"body": body}), encoding="utf-8")
        where = (
            ["--method=PATCH", f"repos/{repository}/issues/comments/{ours[-1]['id']}"]
            if ours
            else ["--method=POST", comments]
        )
        return str(_gh(["gh", "api", *where, f"--input={file}"])["html_url"])


def _gh(argv: Argv) -> Any:
    done = subprocess.run(located(argv), capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise CloudError(f"{' '.join(argv[:3])}: {' '.join(done.stderr.split())[:300]}")
    return json.loads(done.stdout)


def _git(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # gh hands git its token when git asks for one; it is never written down.
    helper = ["-c", "credential.helper=!gh auth git-credential"] if os.environ.get("GH_TOKEN") else []
    return subprocess.run(
        ["git", *helper, *arguments], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def _must(*arguments: str, env: dict[str, str]) -> str:
    done = _git(*arguments, env=env)
    if done.returncode:
        raise CloudError(f"git {arguments[0]}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout.strip()


def _author() -> dict[str, str]:
    who = {"NAME": "atelier", "EMAIL": "atelier@localhost"}
    return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
