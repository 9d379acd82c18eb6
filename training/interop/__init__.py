"""Other libraries beside us: Stable-Baselines3's algorithms, models and evaluations.

Its classes are needed only by what names them: `import_model` reads its files without it.
"""

from typing import TYPE_CHECKING

from ...core.lazy_names import lazy_names

if TYPE_CHECKING:
    from .sb3_envs import Sb3Envs
    from .sb3_extractor import Sb3Extractor
    from .sb3_models.sb3_export import write_model
    from .sb3_models.sb3_import import import_model
    from .sb3_predictor import Sb3Predictor

__all__ = ["Sb3Envs", "Sb3Extractor", "Sb3Predictor", "import_model", "write_model"]
_MODULES = {
    "Sb3Envs": ".sb3_envs",
    "Sb3Extractor": ".sb3_extractor",
    "Sb3Predictor": ".sb3_predictor",
    "import_model": ".sb3_models.sb3_import",
    "write_model": ".sb3_models.sb3_export",
}
_SB3 = "stable_baselines3"
_NEEDS = {"Sb3Envs": _SB3, "Sb3Extractor": _SB3, "write_model": _SB3}

__getattr__ = lazy_names(__name__, _MODULES, _NEEDS)
