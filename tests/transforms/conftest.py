"""The stand-in models are importable by name, also in worker processes (tests/stand_in is on their PYTHONPATH)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stand_in"))
