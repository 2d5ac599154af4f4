"""What only plain ridge models can answer."""

from .classifier import AnalyticClassifier
from .regressor import AnalyticRegressor


def check_kind(model, *others):
    """TypeError where the model is not exactly one of the plain ridge models, or of other given classes.

    Derived classes answer from systems of their own, so what holds for the sums of a ridge regression fails for them.
    """
    kinds = (AnalyticClassifier, AnalyticRegressor, *others)
    if type(model) not in kinds:
        *names, last = (kind.__name__ for kind in kinds)
        raise TypeError(f"model must be an {', '.join(names)} or {last}, got {type(model).__name__}")
