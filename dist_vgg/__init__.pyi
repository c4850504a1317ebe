# The names of __init__.py, for type checkers.

from dist_vgg.api.dataset import Dataset as Dataset
from dist_vgg.api.fit import fit as fit
from dist_vgg.api.model import Model as Model
from dist_vgg.api.model import load as load
from dist_vgg.base.errors import Diverged as Diverged
from dist_vgg.base.errors import UserError as UserError
from dist_vgg.runs.config import TrainConfig as TrainConfig
from dist_vgg.training.scoring import Score as Score

__all__: list[str]
__version__: str
