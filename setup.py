"""Packaging of recbole_disent: the reason of each dependency range stands beside it."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = "0.2.0"

# properties/ and dataset_configs/ stand at the top level of the repository and
# are data packages inside the wheel.
DATA_PACKAGES = {
    "recbole_disent.properties": "properties",
    "recbole_disent.dataset_configs": "dataset_configs",
}

# RecBole itself is not here: its own list wants a ray of 2023, which has no build for Python 3.12 and newer.
# It is installed with --no-deps (README, "Install"; pyproject.toml does the same for uv), and this list
# has what it imports in a run.
REQUIRES = [
    # 2.4 brought the fused Adam to the CPU.
    "torch>=2.4",
    "numpy>=1.26,<3",
    # From here on: the first releases that run with numpy 2. pandas 3 changed what RecBole relies on;
    # recbole_disent/recbole/patches.py has the patches.
    "pandas>=2.2.2,<4",
    "scipy>=1.13",
    "scikit-learn>=1.5",
    "pyyaml>=6.0.1",
    "tqdm>=4.66",
    # RecBole imports these four wherever it trains or logs; it pins the releases of 2021 of two of them.
    "tensorboard>=2.17.1",
    "colorlog>=4.7.2",
    "colorama>=0.4.4",
    "texttable>=1.6.4",
]

TEST = ["pytest>=7", "hypothesis>=6.100", "pytest-xdist>=3.5"]
BUNDLE = ["safetensors>=0.4"]
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
        **{name: ["*.yaml", "*/*.yaml", "*/*.hyper"] for name in DATA_PACKAGES},
        "recbole_disent.leaderboard": ["page.html"],
        "recbole_disent.serving": ["*.html"],
    },
    install_requires=REQUIRES,
    extras_require={
        # Text encoders as item content; 3 is the first that is trained as a plain module.
        "content": ["sentence-transformers>=3"],
        # Bundles: weights in a format that is not executed. Ids are in Parquet, or in CSV without pyarrow.
        "bundle": BUNDLE,
        "serve": SERVE,
        # Parquet files and Arrow tables of events.
        "tables": TABLES,
        # Ray stores its trials by pyarrow, which does not say that it wants numpy 2. RecBole's HyperTuning
        # draws its plot by plotly.
        "tune": ["hyperopt>=0.3", "ray[tune]>=2.49", "numpy>=2", "plotly>=5.18"],
        # hypothesis draws the examples of property tests; pytest-xdist runs files of tests side by side.
        "test": TEST,
        "plots": PLOTS,
        # mkdocs 2 has other plugins and another configuration. latex2mathml turns equations into MathML.
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=1.0", "latex2mathml>=3.77"],
        "dev": [*TEST, *SERVE, *TABLES, *PLOTS, "httpx>=0.27", "ruff>=0.6", "mypy>=1.10", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["recbole-disent = recbole_disent.cli:main"]},
)
