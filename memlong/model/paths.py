"""The data folder, under the name by which users of the model package know it."""

from memlong.paths import data_dir

__all__ = ["data_dir"]
