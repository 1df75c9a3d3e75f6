"""Packaging of recbole_disent; comments give the reasons for the ranges of the dependencies."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = "0.2.0"

# properties/ and dataset_configs/ are folders at the top level of the repository. The wheel contains them
# as packages of data.
DATA_PACKAGES = {
    "recbole_disent.properties": "properties",
    "recbole_disent.dataset_configs": "dataset_configs",
}

# This list does not contain RecBole, because RecBole requires a release of ray from 2023, which has no build
# for Python 3.12 and newer. RecBole is installed with --no-deps (README, "Install"; pyproject.toml does the
# same for uv). The list therefore contains the packages that RecBole imports in a run.
REQUIRES = [
    # 2.4 is the first release with the fused Adam on the CPU.
    "torch>=2.4",
    "numpy>=1.26,<3",
    # For pandas and the packages below, the range starts at the first release that runs with numpy 2.
    # pandas 3 changed behaviour that RecBole relies on; recbole_disent/recbole/patches.py has the patches.
    "pandas>=2.2.2,<4",
    "scipy>=1.13",
    "scikit-learn>=1.5",
    "pyyaml>=6.0.1",
    "tqdm>=4.66",
    # RecBole imports the next four packages to train and to log, and pins two of them to releases of 2021.
    "tensorboard>=2.17.1",
    "colorlog>=4.7.2",
    "colorama>=0.4.4",
    "texttable>=1.6.4",
]

TEST = ["pytest>=7", "hypothesis>=6.100", "pytest-xdist>=3.5"]
BUNDLE = ["safetensors>=0.4"]
ONNX = [*BUNDLE, "onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"]
INDEX = [*BUNDLE, "faiss-cpu>=1.8", "hnswlib>=0.8"]
SERVE = [*BUNDLE, "fastapi>=0.110", "uvicorn>=0.29"]
TABLES = ["pyarrow>=15"]
PLOTS = ["matplotlib>=3.9"]

setup(
    version=VERSION,
    description="Sequential recommenders that learn from the future and from content, for RecBole",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["recbole_disent", "recbole_disent.*"]) + list(DATA_PACKAGES),
    package_dir={"recbole_disent": "recbole_disent", **DATA_PACKAGES},
    package_data={
        **{name: ["*.yaml", "*/*.yaml", "*/*/*.yaml", "*/*.hyper"] for name in DATA_PACKAGES},
        "recbole_disent.leaderboard": ["page.html"],
        "recbole_disent.serving": ["*.html"],
    },
    install_requires=REQUIRES,
    extras_require={
        # Text encoders for item content. Models of release 3 and later can be trained as plain modules.
        "content": ["sentence-transformers>=3"],
        # Bundles store weights in a format without code, and ids in Parquet, or in CSV without pyarrow.
        "bundle": BUNDLE,
        # The query encoder in ONNX, and its comparison with the model.
        "onnx": ONNX,
        # Approximate search; hnswlib is compiled when it is installed.
        "index": INDEX,
        "serve": SERVE,
        # For Parquet files and Arrow tables of events.
        "tables": TABLES,
        # Ray stores its trials with pyarrow, which needs numpy 2 but does not require it. RecBole's
        # HyperTuning draws its plot with plotly.
        "tune": ["hyperopt>=0.3", "ray[tune]>=2.49", "numpy>=2", "plotly>=5.18"],
        # hypothesis draws the examples of property tests; pytest-xdist runs test files in parallel.
        "test": TEST,
        "plots": PLOTS,
        # mkdocs 2 has incompatible plugins and configuration files. latex2mathml turns equations into MathML.
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=1.0", "latex2mathml>=3.77"],
        "dev": [*TEST, *SERVE, *TABLES, *PLOTS, "httpx>=0.27", "ruff>=0.6", "mypy>=1.10", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["recbole-disent = recbole_disent.cli:main"]},
)
