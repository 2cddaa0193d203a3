"""The notebook as Jupyter shows it: `python -m bench.notebook` prints each cell's outputs.

Jupyter's kernel and nbclient, installed from PyPI into an environment of their own, execute
docs/notebook.ipynb with this lab, on the simulated endpoint. Ends with 1 where a cell fails, or
where a run's progress is more than one output.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from lab import paths

EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], 4)
for cell in notebook.cells:
    source = cell.source.replace('"local"', '"simulated"')
    cell.source = source.replace("smollm2-135m", "simulated-small")
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
wrong = 0
for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
    kinds = [output.output_type for output in cell.outputs]
    print(number, "|", cell.source.splitlines()[-1], "|", ", ".join(kinds))
    for output in cell.outputs:
        if output.output_type == "display_data" and "text/plain" in output.data:
            print("    " + output.data["text/plain"].strip().splitlines()[-1][:100])
    chatty = "stream" in kinds and not cell.source.startswith("print")
    wrong |= kinds.count("display_data") > 1 or chatty
sys.exit(wrong)
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="lab-notebook-") as place:
        folder = Path(place)
        venv.create(folder / "jupyter", with_pip=True)
        python = str(folder / "jupyter" / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "ipykernel", "nbclient"], check=True)
        site = [path for path in sys.path if path.endswith("site-packages")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(paths.ROOT), *site]),
            "LAB_DB": str(folder / "lab.duckdb"),
            "LAB_RUNTIME": str(folder / "runtime"),
            "LAB_IGNORE_KEYS": "1",
        }
        notebook = str(paths.ROOT / "docs" / "notebook.ipynb")
        command = [python, "-c", EXECUTE, notebook]
        try:
            return subprocess.run(command, env=environment, cwd=folder).returncode
        finally:
            with contextlib.suppress(OSError):
                card = json.loads((folder / "runtime" / "simulated.json").read_text())
                os.kill(card["pid"], signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
