"""What every estimator shares: parameters, representation and scikit-learn's conventions, without scikit-learn.

Importing scikit-learn takes over a second, so it is imported only inside the methods that only scikit-learn calls, and
for the one exception and the one warning that its users expect.
"""

import inspect
import sys
import threading
import warnings

import numpy as np

from . import _core


class _NotFittedError(ValueError, AttributeError):
    """The estimator has seen no rows (used where scikit-learn is not installed)."""


def not_fitted_error():
    """The class of "not fitted" errors: scikit-learn's own where it is installed."""
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return _NotFittedError
    return NotFittedError


def warn_data_conversion(message):
    """Warns with scikit-learn's DataConversionWarning where it is installed, else with UserWarning."""
    try:
        from sklearn.exceptions import DataConversionWarning as category
    except ImportError:
        category = UserWarning
    warnings.warn(message, category, stacklevel=4)


def warn_not_converged(message, stacklevel=3):
    """Warns with scikit-learn's ConvergenceWarning where it is installed, else with UserWarning."""
    try:
        from sklearn.exceptions import ConvergenceWarning as category
    except ImportError:
        category = UserWarning
    warnings.warn(message, category, stacklevel=stacklevel)


def warn_rank_deficient(reports):
    """One ConvergenceWarning for solves with a ridge that had to leave directions out, if any of them had to.

    Takes SolveReports, or whatever has their ``method``, ``ridge``, ``rank`` and ``size``. Names the worst of them.
    """
    short = [report for report in reports if report.method == "eigh" and report.rank < report.size and report.ridge > 0]
    if not short:
        return
    worst = min(short, key=lambda report: report.rank)
    others = f" (so are the systems of {len(short) - 1} other ridges)" if len(short) > 1 else ""
    warn_not_converged(
        f"the system is singular to working precision at ridge={worst.ridge:.3g}: its rank is {worst.rank} of "
        f"{worst.size}{others}. The weights are the smallest ones that leave the other directions out. Use a larger "
        "ridge, drop features that repeat others, or standardize features that differ widely in size; the report of "
        "the solve says more",
        stacklevel=_level_of_caller(),
    )


def _level_of_caller():
    """The ``stacklevel`` of the first frame outside of this package, for `warn_not_converged` called from here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    return level


# The compiled library counts threads in 32 bits; how many run is also bounded by the work there is.
_MOST_THREADS = 2**31 - 1
# Longer lists are shown by their first and last three entries.
_SHOWN_ENTRIES = 12


def thread_count(n_jobs):
    """Threads for the compiled library from an ``n_jobs`` of scikit-learn's kind; 0 means the library's default."""
    if n_jobs is None:
        return 0
    if isinstance(n_jobs, (bool, np.bool_)) or not isinstance(n_jobs, (int, np.integer)) or n_jobs == 0:
        raise ValueError(f"n_jobs must be None, a positive integer, or a negative one (-1: all), got {n_jobs!r}")
    if n_jobs > _MOST_THREADS:
        raise ValueError(f"n_jobs must be at most {_MOST_THREADS}, got {n_jobs}")
    if n_jobs > 0:
        return int(n_jobs)
    # As few as the affinity mask and the cgroup allow; GRAMIAN_NUM_THREADS is only for n_jobs=None.
    return max(1, _core.available_processors() + 1 + int(n_jobs))


def draw_seed(random_state):
    """A 64-bit seed from a ``random_state``: an integer is taken as it is, a generator draws one, None draws anew."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, (bool, np.bool_)):
        if not 0 <= random_state < 2**64:
            raise ValueError(f"random_state must be in [0, 2**64), got {random_state}")
        return int(random_state)
    if random_state is None:
        return int(np.random.randint(0, 2**31 - 1))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 2**63))
    raise ValueError(f"{random_state!r} cannot be used to seed a generator; pass an integer, a generator or None")


def _short(value):
    if not isinstance(value, (list, tuple)) or len(value) <= _SHOWN_ENTRIES:
        return repr(value)
    opening, closing = "[]" if isinstance(value, list) else "()"
    entries = [*map(repr, value[:3]), "...", *map(repr, value[-3:])]
    return opening + ", ".join(entries) + closing


class Snapshot:
    """A decomposition of sums as they were when it was made. Nothing changes it, so a copy is itself."""

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        # What it was made of may have changed since, and is not kept.
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: it is a decomposition that the sums give again, so pickle the "
            "model, state or rows that it was made of and make it from these"
        )


class Estimator:
    """Parameters as scikit-learn sees them: the arguments of ``__init__``, stored under their own names."""

    @classmethod
    def _parameter_names(cls):
        parameters = inspect.signature(cls.__init__).parameters.values()
        return sorted(p.name for p in parameters if p.name != "self")

    @classmethod
    def _with_defaults(cls, state):
        """What a pickle holds, and the defaults of parameters that the version which made it did not have yet."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {**{p.name: p.default for p in parameters if p.default is not p.empty}, **state}

    def get_params(self, deep=True):
        """Parameters of this estimator by name.

        Parameters
        ----------
        deep : bool, default=True
            Also the parameters of estimators among them, as ``name__parameter``.

        Returns
        -------
        dict
        """
        out = {}
        for name in self._parameter_names():
            value = getattr(self, name)
            out[name] = value
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                out.update((f"{name}__{key}", part) for key, part in value.get_params().items())
        return out

    def set_params(self, **params):
        """Sets parameters by name (``name__parameter`` reaches into an estimator among them).

        A fitted model keeps the parameters it was made with; the new ones hold from the next ``fit``.

        Returns
        -------
        self
        """
        names = self._parameter_names()
        nested = {}
        for key, value in params.items():
            name, _, rest = key.partition("__")
            if name not in names:
                raise ValueError(f"Invalid parameter {name!r} for estimator {self!r}. Valid parameters are: {names!r}.")
            if rest:
                nested.setdefault(name, {})[rest] = value
            else:
                setattr(self, name, value)
        for name, part in nested.items():
            getattr(self, name).set_params(**part)
        return self

    def __repr__(self):
        parameters = inspect.signature(type(self).__init__).parameters
        changed = []
        for name in parameters:
            if name == "self":
                continue
            value = getattr(self, name)
            default = parameters[name].default
            if isinstance(value, np.ndarray):
                changed.append(f"{name}=array of shape {value.shape}")
            elif value is not default and repr(value) != repr(default):
                changed.append(f"{name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(changed)})"

    def _lock(self):
        """Held by calls that learn: which model they change, and whether they begin it, must not change meanwhile.

        It must be a lock of the interpreter's own: a second Ctrl-C, at the begin of an ``__exit__`` that is written in
        Python, would keep it from being released.
        """
        # Made late, since scikit-learn allows nothing but parameters in __init__; setdefault lets one of two win.
        return self.__dict__.setdefault("_mutex", threading.Lock())

    def _raise_not_fitted(self):
        raise not_fitted_error()(
            f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
            "using this estimator."
        )

    def _set_feature_names(self, names):
        """Records the column names of the rows of a fit, or that there are none."""
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _tags(self, estimator_type, target_required):
        """The part of ``__sklearn_tags__`` that all estimators share."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=estimator_type,
            target_tags=TargetTags(required=target_required),
            transformer_tags=None,
            classifier_tags=None,
            regressor_tags=None,
            input_tags=InputTags(sparse=True),
        )
