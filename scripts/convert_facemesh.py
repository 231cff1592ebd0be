"""Convert MediaPipe's face_landmark.tflite into model/data/facemesh.safetensors (run once, by developers).

    pip download --no-deps mediapipe==0.10.21
    pip install tflite==2.18.0
    python scripts/convert_facemesh.py mediapipe-0.10.21-*.whl

Weights keep the float16 values of the original, so nothing is lost. The licence text of the wheel is written beside.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
import tflite
from safetensors.numpy import save_file

MEMBER = "mediapipe/modules/face_landmark/face_landmark.tflite"
DATA = Path(__file__).resolve().parent.parent / "model" / "data"
NOTICE = """\
facemesh.safetensors holds the weights of the FaceMesh network of MediaPipe
(face_landmark.tflite in the wheel mediapipe==0.10.21, Copyright The MediaPipe Authors),
converted to another file format by scripts/convert_facemesh.py; the values are unchanged.
Source: https://github.com/google-ai-edge/mediapipe. They are licensed as follows.

"""


def constants(model: tflite.Model) -> dict[str, np.ndarray]:
    """The float16 constants of the first subgraph by name, TensorFlow layout."""
    graph = model.Subgraphs(0)
    found = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == tflite.TensorType.FLOAT16 and not isinstance(data, int):
            found[tensor.Name().decode()] = data.view(np.float16).reshape(tensor.ShapeAsNumpy())
    return found


class Converter:
    """Collects the state of `FaceMesh` from the original's constants."""

    def __init__(self, source: dict[str, np.ndarray]):
        self.source = source
        self.state: dict[str, np.ndarray] = {}

    def convolution(self, name: str, number: int, depthwise: bool = False) -> None:
        """OHWI (depthwise: 1HWO) kernel to OIHW."""
        prefix = f"{'depthwise_' if depthwise else ''}conv2d_{number}"
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        self.state[f"{name}.weight"] = np.ascontiguousarray(self.source.pop(f"{prefix}/Kernel").transpose(order))
        self.state[f"{name}.bias"] = self.source.pop(f"{prefix}/Bias")

    def activation(self, name: str, number: int) -> None:
        self.state[f"{name}.weight"] = self.source.pop(f"p_re_lu_{number}/Alpha").ravel()

    def block(self, name: str, depthwise: int, pointwise: int, activation: int) -> None:
        self.convolution(f"{name}.depthwise", depthwise, depthwise=True)
        self.convolution(f"{name}.pointwise", pointwise)
        self.activation(f"{name}.activation", activation)


def convert(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """State of `cfr.model.face_landmarks.FaceMesh`, float16; raises ValueError if a constant is left over."""
    converter = Converter(source)
    converter.convolution("stem", 1)
    converter.activation("stem_activation", 1)
    for index in range(14):
        converter.block(f"trunk.{index}", index + 1, index + 2, index + 2)
    for index in range(3):
        converter.block(f"landmark_head.{index}", index + 15, index + 16, index + 16)
    converter.convolution("landmark_head.3", 19)
    converter.activation("landmark_head.4", 19)
    converter.block("landmark_head.5", 18, 20, 20)
    converter.convolution("landmark_head.6", 21)
    converter.block("score_head.0", 23, 28, 26)
    converter.convolution("score_head.1", 29)
    converter.activation("score_head.2", 27)
    converter.block("score_head.3", 24, 30, 28)
    converter.convolution("score_head.4", 31)
    if converter.source:
        raise ValueError(f"constants not used: {sorted(converter.source)}: is this the network of mediapipe 0.10.21?")
    return converter.state


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel of mediapipe 0.10.21")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        model = tflite.Model.GetRootAsModel(wheel.read(MEMBER), 0)
        licence = wheel.read("mediapipe-0.10.21.dist-info/LICENSE").decode()
    DATA.mkdir(exist_ok=True)
    save_file(convert(constants(model)), DATA / "facemesh.safetensors")
    (DATA / "facemesh.LICENSE").write_text(NOTICE + licence)


if __name__ == "__main__":
    main()
