"""Store what the original MTCNN and FaceMesh find on the bundled photographs, for the tests (run once, by developers).

    python -m venv /tmp/originals
    /tmp/originals/bin/pip install mtcnn==1.0.0 tensorflow-cpu ai-edge-litert pillow
    pip download --no-deps mediapipe==0.10.21
    /tmp/originals/bin/python scripts/store_original_outputs.py mediapipe-0.10.21-*.whl

Writes tests/data/original_outputs.npz: for each photo `mtcnn_<name>` (n,15): x1, y1, x2, y2, score, five x, five y, at
a smallest face of 20 px; for each crop (see CROPS) `facemesh_<name>` (468,3) in px of the crop and `score_<name>`.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from mtcnn import MTCNN
from PIL import Image

MEMBER = "mediapipe/modules/face_landmark/face_landmark.tflite"
REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOS = REPOSITORY / "model" / "data" / "photos"
OUTPUT = REPOSITORY / "tests" / "data" / "original_outputs.npz"
# Rows and columns of each photo that make a crop of 192 px: slices, so that no resampling can differ.
CROPS = {
    "astronaut.png": (slice(15, 207), slice(128, 320)),
    "grace_hopper.jpg": (slice(20, 404, 2), slice(70, 454, 2)),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel of mediapipe 0.10.21")
    with zipfile.ZipFile(parser.parse_args().wheel) as wheel:
        network = wheel.read(MEMBER)
    interpreter = Interpreter(model_content=network, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    detector = MTCNN()
    stored = {}
    for name, crop in CROPS.items():
        image = np.asarray(Image.open(PHOTOS / name).convert("RGB"))
        faces = detector.detect_faces(
            image, fit_to_image=False, box_format="xyxy", output_type="numpy", min_face_size=20
        )
        stored[f"mtcnn_{name}"] = faces[:, 1:].astype(np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[crop][None].astype(np.float32) / 255)
        interpreter.invoke()
        outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        landmarks, score = sorted(outputs, key=np.size, reverse=True)
        stored[f"facemesh_{name}"] = landmarks.reshape(468, 3)
        stored[f"score_{name}"] = score.ravel()
    OUTPUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUTPUT, **stored)


if __name__ == "__main__":
    main()
