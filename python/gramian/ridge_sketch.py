"""Where the sketched ridge once was: pickles made then name this module."""

from ._sketched_ridge import SketchedRidge, SketchedRidgePath, SketchedRidgeResult, sketched_ridge

__all__ = ["SketchedRidge", "SketchedRidgePath", "SketchedRidgeResult", "sketched_ridge"]
