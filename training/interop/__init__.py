"""Other libraries beside us: Stable-Baselines3's algorithms, models and evaluations.

Its classes are needed only by what names them: `import_model` reads its files without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sb3_envs import Sb3Envs
    from .sb3_extractor import Sb3Extractor
    from .sb3_models.sb3_export import write_model
    from .sb3_models.sb3_import import import_model
    from .sb3_predictor import Sb3Predictor

__all__ = ["Sb3Envs", "Sb3Extractor", "Sb3Predictor", "import_model", "write_model"]
_MODULES = {
    "Sb3Envs": "sb3_envs",
    "Sb3Extractor": "sb3_extractor",
    "Sb3Predictor": "sb3_predictor",
    "import_model": "sb3_models.sb3_import",
    "write_model": "sb3_models.sb3_export",
}


def __getattr__(name: str) -> Any:
    """Gives a public name at the first question; ImportError, in one line, without its library."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: {error}; pip install 'neuraxis[sb3]'") from error
