"""Packaging of recbole_disent: the reason of each dependency range stands beside it."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = "0.1.0"

# properties/ and dataset_configs/ stand at the top level of the repository and
# are data packages inside the wheel.
DATA_PACKAGES = {
    "recbole_disent.properties": "properties",
    "recbole_disent.dataset_configs": "dataset_configs",
}

REQUIRES = [
    # Everything in recbole_disent/compat.py is about this very release.
    "recbole==1.2.1",
    # 2.4 brought the fused Adam to the CPU; 2.13.0 is the newest release that is tested.
    "torch>=2.4,<2.13.1",
    # RecBole pulls in ray 2.6.3 where that has a build (Python < 3.12); that ray
    # reads np.bool8, gone in numpy 2. Without ray (README, "Without ray") numpy 2 works.
    "numpy>=1.24,<2; python_version < '3.12'",
    "numpy>=1.26,<3; python_version >= '3.12'",
    # pandas 3: RecBole's _remap of token_seq columns fails, and its
    # fillna(inplace=True) on a column changes nothing, silently.
    "pandas>=1.5,<3",
    "scipy>=1.9",
    "scikit-learn>=1.0",
    "pyyaml>=6.0",
    "tqdm>=4.60",
    # ray 2.6.3 imports pkg_resources, which setuptools 81 dropped.
    "setuptools<81; python_version < '3.12'",
]

setup(
    name="recbole_disent",
    version=VERSION,
    description="Sequential recommenders that learn from the future and from content, for RecBole",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
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
        # hyperopt 0.3.0 is tested. Ray Tune stores its trials by pyarrow, which ray does not ask for,
        # and whose later releases want numpy 2, which ray 2.6 does not run with.
        # Bundles: weights in a format that is not executed, ids in Parquet (CSV without pyarrow).
        "bundle": ["safetensors>=0.4"],
        "serve": ["safetensors>=0.4", "fastapi>=0.110", "uvicorn>=0.29"],
        "tune": ["hyperopt>=0.2.7", "pyarrow>=14,<20; python_version < '3.12'"],
        "test": ["pytest>=7"],
        "plots": ["matplotlib>=3.7"],
        "dev": ["pytest>=7", "ruff>=0.6", "mypy>=1.10", "types-PyYAML", "matplotlib>=3.7"],
    },
    entry_points={"console_scripts": ["recbole-disent = recbole_disent.cli:main"]},
)
