import os
import subprocess
import sys
from pathlib import Path

import gradio

ROOT = Path(__file__).parents[2]
PROGRAM = """
from app import lean
lean.install()
lean.install()
import sys
import gradio
from gradio import component_meta
finders = [f for f in sys.meta_path if type(f).__module__ == "app.lean"]
print(len(finders), component_meta.create_or_modify_pyi(None, "", []), gradio.Image(label="x").label)
"""


def test_gradio_imports_and_writes_nothing_beside_its_source():
    stubs = sorted(Path(gradio.__file__).parent.rglob("*.pyi"))
    before = [(path, path.stat().st_mtime_ns) for path in stubs]
    # In a process of its own, since Gradio is imported here already.
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["1", "None", "x"]
    assert [(path, path.stat().st_mtime_ns) for path in stubs] == before
