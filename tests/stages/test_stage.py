import subprocess
import sys
from pathlib import Path

import pytest

from stages.stage import StageError, read_json, run, sha256, whole_folder, write_bytes, write_json, write_text


def test_a_failed_block_leaves_neither_folder_nor_scratch(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_the_one_before_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(out):
        raise ZeroDivisionError
    assert (out / "a").read_text() == "old"
    with whole_folder(out) as folder:
        (folder / "b").write_text("new")
    assert [p.name for p in out.iterdir()] == ["b"]


def test_what_a_killed_run_left_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part/half").write_text("half")
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_files_are_written_without_a_rest(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep/bytes", b"\r\n\0")
    write_text(tmp_path / "text", "a\nü\n")
    write_json(tmp_path / "value.json", {"ü": [1, 2.5]})
    assert (tmp_path / "deep/bytes").read_bytes() == b"\r\n\0"
    assert (tmp_path / "text").read_bytes() == "a\nü\n".encode()
    assert read_json(tmp_path / "value.json") == {"ü": [1, 2.5]}
    assert not list(tmp_path.rglob("*.part"))


def test_a_missing_input_names_the_file_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"meta\.json is missing.*dvc repro"):
        read_json(tmp_path / "meta.json")


def test_sha256_is_that_of_the_bytes_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    assert sha256(tmp_path / "a", tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_error_is_one_line_and_exit_status_1() -> None:
    code = "from stages.stage import run, StageError\ndef main(): raise StageError('bad thing')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("bad thing\n")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_with_130() -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert exit_.value.code == 130
