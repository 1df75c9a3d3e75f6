"""From a model's name to its row of the table, its class, its loader and its check.

Models from outside the package have rows, too: those that installed packages offer as entry
points of the group ``recbole_disent.models``, and those of a file named by ``model_file``.
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
    """Import ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def register(spec: ModelSpec) -> None:
    """Make a model from outside the package known under its name.

    Args:
        spec: the row of the model; ``cls`` and ``properties`` (absolute paths) are its own.

    Raises:
        UserError: the package or RecBole has a model of that name.
    """
    _require_free(spec.name)
    _registered[spec.name] = spec


def _require_free(name: str) -> None:
    if name in SPECS or name in recbole_models():
        raise UserError(
            f"model '{name}': the name is taken by a model of this package or of RecBole; "
            "give the class and its row another name"
        )


@cache
def _from_entry_points() -> dict[str, ModelSpec]:
    """Rows of models that installed packages offer; an entry point names a :class:`ModelSpec`."""
    found: dict[str, ModelSpec] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = point.load()
        except Exception as error:
            raise UserError(
                f"entry point '{point.name}' of {ENTRY_POINTS}: '{point.value}' cannot be imported "
                f"({type(error).__name__}: {error}); update or uninstall the package that offers it"
            ) from error
        if not isinstance(spec, ModelSpec):
            raise UserError(
                f"entry point '{point.name}' of {ENTRY_POINTS}: got a {type(spec).__name__}, expected a "
                "recbole_disent.specs.ModelSpec"
            )
        _require_free(spec.name)
        found[spec.name] = spec
    return found


def load_model_file(path: str) -> ModelSpec:
    """Run a Python file of the user's own and register the model that it defines as ``SPEC``.

    Args:
        path: a Python file with a class and ``SPEC = ModelSpec(name, cls=f"{__name__}:Class", ...)``.

    Returns:
        The row of the model.

    Raises:
        UserError: no such file, a file that fails, or a file without ``SPEC``.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise UserError(f"model_file: '{path}' is not there; give the path of a Python file with a model")
    name = f"recbole_disent_model_file_{file.stem}"
    origin = getattr(sys.modules.get(name), "__file__", None)
    if origin != str(file):
        description = importlib.util.spec_from_file_location(name, file)
        if description is None or description.loader is None:
            raise UserError(f"model_file: '{path}' is no Python file; its name must end with .py")
        module = importlib.util.module_from_spec(description)
        sys.modules[name] = module  # classes of the module are found by its name
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
    """Return the rows of all models that are not plain models of RecBole."""
    return {**SPECS, **_from_entry_points(), **_registered}


def spec_of(name: str) -> ModelSpec:
    """Return the row of a model; a plain model of RecBole has an empty one."""
    return model_names().get(name) or ModelSpec(name)


@cache
def recbole_models() -> list[str]:
    """Return the names of RecBole's models: those with default values in its properties."""
    folder = recbole_folder() / "properties" / "model"
    return sorted(file.stem for file in folder.glob("*.yaml"))


def recbole_folder() -> Path:
    """Return the folder of the installed RecBole, without importing it.

    Raises:
        UserError: RecBole is not installed.
    """
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        raise UserError("RecBole is not installed: pip install --no-deps recbole==1.2.1")
    return Path(next(iter(found.submodule_search_locations)))


def require_model(name: str) -> ModelSpec:
    """Return the row of a model that exists; nothing of torch or RecBole is imported for it.

    Raises:
        UserError: there is no such model.
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
    """Return the class of a model of this package or of RecBole, as its author wrote it.

    Raises:
        UserError: no such model, one whose library is not installed, or a row whose class is not
            there or has another name.
    """
    spec = require_model(name)
    if spec.cls:
        try:
            found = resolve(spec.cls)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"model '{name}': its row names the class '{spec.cls}', which cannot be imported: {error}"
            ) from error
        if found.__name__ != name:  # RecBole's configuration knows a model by the name of its class
            raise UserError(
                f"model '{name}': its row names the class {found.__name__}, expected a class of the "
                "row's name; rename one of them"
            )
        return found
    from recbole_disent.recbole.patches import recbole_class

    return recbole_class(name)


def model_class(config: Any) -> type[Any]:
    """Return the class that a configuration trains, after the model's own checks of its keys.

    Raises:
        UserError: keys that do not fit together.
    """
    spec = spec_of(config["model"])
    if spec.check:
        resolve(spec.check)(config)
    return resolve(spec.adapter)(config, config.model_class) if spec.adapter else config.model_class


def train_loader(config: Any) -> Any:
    """Return the function (config, dataset, sampler) -> training loader; None: RecBole's for the model."""
    modes = spec_of(config["model"]).modes
    if not modes:
        return None
    path = modes[config["train_mode"]] if len(modes) > 1 else next(iter(modes.values()))
    return resolve(path) if path else None


def uses_content(config: Any) -> bool:
    """Whether a configuration's model is given item content."""
    key = spec_of(config["model"]).content
    return key == "always" or (key != "never" and bool(config[key]))
