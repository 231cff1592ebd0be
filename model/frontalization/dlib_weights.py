"""Where the weights of the optional extra `identity` are: dlib's face recogniser, ResNet-29 (CC0)."""

import importlib.util
from pathlib import Path

DLIB = "dlib"
"""What stands for it on the command line."""

LICENCE = "CC0-1.0"


def weights_path() -> Path:
    """The installed weights.

    Raises:
        ImportError: the extra is not installed.
    """
    # Found without importing the package, which would ask for setuptools.
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or found.origin is None or importlib.util.find_spec("dlib") is None:
        raise ImportError("dlib's recogniser is not installed: pip install 'cfr[identity]'")
    return Path(found.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
