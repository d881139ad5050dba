"""Commands in processes of their own that build no graphs."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [Path(__file__).parent / "eager", ROOT]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))}
"""For commands whose few steps take far less time than building their graphs would."""
