"""Makes the adapter that ships with the app: the best one of a run on the demo with its own recipe.

    python -m scripts.make_demo_adapter [--run FOLDER]

Without --run it trains one, with seed 0, which takes about five minutes on two cores. Run scripts.make_start_pictures
afterwards: the start page shows what the adapter predicts.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from sam3_lora.recipes import demo_config
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from sam3_lora.ui.adapters import DEMO_FOLDER

MAX_BYTES = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run with these settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(arguments.run) if arguments.run else Run.create(demo_config().with_settings(_into(folder)))
        asked = demo_config().model_dump(exclude={"output"})
        assert run.asked_config.model_dump(exclude={"output"}) == asked, "the run has other settings than the recipe"
        if not arguments.run:
            fit(run)
        shutil.rmtree(DEMO_FOLDER, ignore_errors=True)
        shutil.copytree(run.folder / "adapters" / "best", DEMO_FOLDER)
    size = sum(path.stat().st_size for path in DEMO_FOLDER.iterdir())
    assert size <= MAX_BYTES, f"{size} bytes"
    print(f"{DEMO_FOLDER}: {size} bytes, {run.status().best_sentence}")


def _into(folder: str) -> dict[str, str]:
    return {"output.runs": folder, "output.name": "demo"}


if __name__ == "__main__":
    main()
