"""Lookup of a model by its name: its :class:`ModelSpec`, its class, its loader and its checks.

Models from outside the package also have a specification. Installed packages register models as entry
points of the group ``recbole_disent.models``, and the key ``model_file`` registers the model of a file.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from recbole_disent.errors import UserError, nearest
from recbole_disent.specs import SPECS, ModelSpec

ENTRY_POINTS = "recbole_disent.models"
_registered: dict[str, ModelSpec] = {}


def resolve(path: str) -> Any:
    """Import a function or class by its path ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def register(spec: ModelSpec) -> None:
    """Register a model from outside the package.

    Args:
        spec: specification of the model; ``properties`` contains absolute paths.

    Raises:
        UserError: this package or RecBole already has a model of this name.
    """
    _require_free(spec.name)
    _registered[spec.name] = spec


def _require_free(name: str) -> None:
    if name in SPECS or name in recbole_models():
        raise UserError(
            f"model '{name}': the name is taken by a model of this package or of RecBole; "
            "rename the class and the ModelSpec"
        )


@cache
def _from_entry_points() -> dict[str, ModelSpec]:
    """Return the models that installed packages register; an entry point refers to a :class:`ModelSpec`."""
    found: dict[str, ModelSpec] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = point.load()
        except Exception as error:
            raise UserError(
                f"entry point '{point.name}' of {ENTRY_POINTS}: '{point.value}' cannot be imported "
                f"({type(error).__name__}: {error}); update or uninstall its package"
            ) from error
        if not isinstance(spec, ModelSpec):
            raise UserError(
                f"entry point '{point.name}' of {ENTRY_POINTS}: got a {type(spec).__name__}, expected a "
                "recbole_disent.specs.ModelSpec; correct or uninstall the package"
            )
        _require_free(spec.name)
        found[spec.name] = spec
    return found


def load_model_file(path: str) -> ModelSpec:
    """Execute a Python file of the user and register the model that the file defines as ``SPEC``.

    Args:
        path: a Python file with a class and ``SPEC = ModelSpec(name, cls=f"{__name__}:Class", ...)``.

    Returns:
        The specification of the model.

    Raises:
        UserError: the file does not exist, fails, or does not define ``SPEC``.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise UserError(f"model_file: '{path}' is not there; give the path of a Python file with a model")
    name = f"recbole_disent_model_file_{file.stem}"
    origin = getattr(sys.modules.get(name), "__file__", None)
    if origin != str(file):
        description = importlib.util.spec_from_file_location(name, file)
        if description is None or description.loader is None:
            raise UserError(f"model_file: '{path}' is not a Python file; its name must end with .py")
        module = importlib.util.module_from_spec(description)
        sys.modules[name] = module  # resolve() imports the classes by the name of the module
        try:
            description.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"model_file: '{path}' failed: {type(error).__name__}: {error}") from error
    spec = getattr(sys.modules[name], "SPEC", None)
    if not isinstance(spec, ModelSpec):
        raise UserError(
            f"model_file: '{path}' defines no SPEC; add SPEC = ModelSpec('NAME', cls=f'{{__name__}}:CLASS')"
        )
    register(spec)
    return spec


def model_names() -> dict[str, ModelSpec]:
    """Return the specification of each model that has one; RecBole's plain models have none."""
    return {**SPECS, **_from_entry_points(), **_registered}


def spec_of(name: str) -> ModelSpec:
    """Return the specification of a model; it has only default values for a plain model of RecBole."""
    return model_names().get(name) or ModelSpec(name)


@cache
def recbole_models() -> list[str]:
    """Return the names of RecBole's models, which are the models with a properties file in RecBole."""
    folder = recbole_folder() / "properties" / "model"
    return sorted(file.stem for file in folder.glob("*.yaml"))


def recbole_folder() -> Path:
    """Return the folder of the installed RecBole without importing RecBole.

    Raises:
        UserError: RecBole is not installed.
    """
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        raise UserError("RecBole is not installed: pip install --no-deps recbole==1.2.1")
    return Path(next(iter(found.submodule_search_locations)))


def require_model(name: str) -> ModelSpec:
    """Return the specification of a model after checking that the model exists.

    The function imports neither torch nor RecBole.

    Raises:
        UserError: the model does not exist.
    """
    known = model_names()
    if name in known:
        return known[name]
    names = recbole_models()
    if name not in names:
        ours = ", ".join(n for n, spec in known.items() if spec.cls)
        raise UserError(
            f"model '{name}' is not known{nearest(name, {*known, *names})} "
            f"(this package: {ours}; RecBole: {', '.join(names)})"
        )
    return ModelSpec(name)


def get_model(name: str) -> type[Any]:
    """Return the class of a model of this package or of RecBole, without this package's adapter.

    Raises:
        UserError: the model does not exist, the model needs a library that is not installed, or its
            :class:`ModelSpec` names a class that cannot be imported or that has another name.
    """
    spec = require_model(name)
    if spec.cls:
        try:
            found = resolve(spec.cls)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"model '{name}': the ModelSpec names the class '{spec.cls}', which cannot be imported "
                f"({error}); correct cls"
            ) from error
        if found.__name__ != name:  # RecBole's configuration identifies a model by the name of its class
            raise UserError(
                f"model '{name}': the ModelSpec names the class {found.__name__}, expected a class named "
                f"{name}; rename one of them"
            )
        return found
    from recbole_disent.recbole.patches import recbole_class

    return recbole_class(name)


def model_class(config: Any) -> type[Any]:
    """Return the class that a run trains, after checking the keys of the model.

    Raises:
        UserError: two keys contradict each other.
    """
    check_keys(config)
    spec = spec_of(config["model"])
    return resolve(spec.adapter)(config, config.model_class) if spec.adapter else config.model_class


def check_keys(config: Any) -> None:
    """Check the keys of a model together.

    Raises:
        UserError: two keys contradict each other.
    """
    path = spec_of(config["model"]).check
    if path:
        resolve(path)(config)


def check_data(config: Any, train: Any) -> None:
    """Check the keys of a model against the training part of the data.

    Raises:
        UserError: a value does not suit the data.
    """
    path = spec_of(config["model"]).check_data
    if path:
        resolve(path)(config, train)


def train_loader(config: Any) -> Any:
    """Return the function (config, dataset, sampler) -> training loader, or None for RecBole's loader."""
    modes = spec_of(config["model"]).modes
    if not modes:
        return None
    path = modes[config["train_mode"]] if len(modes) > 1 else next(iter(modes.values()))
    return resolve(path) if path else None


def uses_content(config: Any) -> bool:
    """Return whether the model of a configuration uses item content."""
    key = spec_of(config["model"]).content
    return key == "always" or (key != "never" and bool(config[key]))
