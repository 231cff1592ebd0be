"""Store a trained coefficient regressor as the one that comes with the package, in half precision.

    python scripts/store_regressor.py RUN/regressor.safetensors

The recipe of the shipped weights is in docs/train_estimator.md.
"""

import argparse
from pathlib import Path

from safetensors.torch import save_file

from cfr.model.checkpoints import load_checkpoint
from cfr.model.networks.facemesh_regressor import FaceMeshRegressor

OUTPUT = Path(__file__).resolve().parent.parent / "model" / "data" / "regressor.safetensors"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="of `cfr train-estimator --network facemesh`, for the default face")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    state = load_checkpoint(str(arguments.weights), FaceMeshRegressor()).state_dict()
    half = {name: (value.half() if value.is_floating_point() else value) for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in half.items()}, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
