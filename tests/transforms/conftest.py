"""The stand-in models are importable by name, also in the processes that a job starts."""

import os
import sys
from pathlib import Path

STAND_IN = str(Path(__file__).resolve().parent.parent / "stand_in")

sys.path.insert(0, STAND_IN)
if STAND_IN not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [STAND_IN, os.environ.get("PYTHONPATH", "")]))
