"""What the image installs is enough to serve, and has no torch in it."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.app import tiny_model

ROOT = Path(__file__).parents[1]
PICTURE = "samples/test/02-bag.png"


@pytest.mark.slow
def test_the_requirements_of_the_app_serve_in_an_empty_environment(tmp_path: Path) -> None:
    models = tiny_model.write(tmp_path / "models")
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = ["--require-hashes", "-r", ROOT / "requirements/app.txt"]
    if uv := shutil.which("uv"):  # has the files at hand: seconds instead of a minute
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True, timeout=280)
    else:
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, timeout=280)
    probe = "import importlib.util as u; print([n for n in ('torch', 'dvc', 'onnx', 'pytest') if u.find_spec(n)])"
    found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    env = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", "MODEL_DIR": str(models)}
    with subprocess.Popen([python, "-m", "app.main"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = server.stderr.readline().split()[-1]
            data = (models / PICTURE).read_bytes()
            request = urllib.request.Request(f"{address}/v1/predict", data, {"Content-Type": "image/png"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert json.load(answer)["answers"][0]["class"] == "Bag"
            page = urllib.request.Request(address, headers={"Accept": "text/html"})
            with urllib.request.urlopen(page, timeout=60) as answer:
                assert b"Atelier" in answer.read()
        finally:
            server.terminate()
            assert server.wait(20) == 0
