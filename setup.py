"""Package metadata; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "tfface" / "version.py").read_text())[1]

SERVING = [
    "tensorflow-serving-api>=2.21,<2.22",
    "grpcio-health-checking>=1.80",
    "grpcio-reflection>=1.80",
    "httpx>=0.27",
    "orjson>=3.10",
    "tornado>=6.4",
]
TUNING = ["keras-tuner[bayesian]>=1.4.8,<1.5"]
WEIGHTS = ["torch", "safetensors"]

setup(
    name="tfface",
    version=VERSION,
    description="Train, tune and serve conditional face generation and editing in TensorFlow",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfface", "tfface.*"]),
    package_data={
        "tfface": [
            "py.typed",
            "methods/*/presets/*.yaml",
            "methods/*/README.md",
            "methods/*/models/*/*",
            "methods/*/models/*/checkpoints/*",
        ]
    },
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "tensorboard>=2.20",
        "PyYAML>=6",
        "Pillow>=10.1",
        "rich>=13",
        "scikit-image>=0.24",
        "scipy>=1.11",
    ],
    extras_require={
        "serving": SERVING,
        "tuning": TUNING,
        "weights": WEIGHTS,
        "onnx": ["tf2onnx>=1.17", "onnxruntime>=1.20"],
        "docs": ["sphinx>=8.1", "furo>=2025.7", "myst-parser>=4"],
        "dev": [
            *SERVING,
            *TUNING,
            "grpcio-tools>=1.80",
            "pytest>=8",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "ipykernel>=6.29",
            "nbconvert>=7.16",
            "nbmake>=1.5.5",
        ],
    },
    entry_points={"console_scripts": ["tfface=tfface.cli:main"]},
)
