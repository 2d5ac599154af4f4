"""Classifiers that are read off the moments of classes: Gaussians with one covariance and scores made of them."""

import numpy as np

from . import _core, _labels, _validate
from ._analytic_base import Learnt, absent
from ._composite import Composite, Parts, names_from_json, names_to_json
from ._feature_map import seed_to_json
from ._model_config import LabelForm, params_of
from ._one_label import OneLabelClassifier, weights_of_two
from .base import Estimator, thread_count
from .classifier import AnalyticClassifier
from .features import from_handle
from .gram import GramState, report_of


class _ClassModel(OneLabelClassifier, AnalyticClassifier):
    """Base of classifiers made of the moments of classes: a row has one class, and no class a weight."""

    class_weight = None  # what the base class asks for; there is no such parameter here

    def _config(self):
        return AnalyticClassifier(
            dtype=self.dtype, device=self.device, n_jobs=self.n_jobs, verbose=self.verbose
        )._config()

    def _checked_class_weight(self):
        return None

    def _begin_with(self, X, rows, y, labels, weight, declared):
        if labels is None:
            raise ValueError(f"Multi-label targets are not for {type(self).__name__}: a row has one class")
        return super()._begin_with(X, rows, y, labels, weight, declared)


class GaussianClassifier(_ClassModel):
    """Gaussian classes with one covariance, exact on streams: linear discriminant analysis and Mahalanobis distances.

    Class c has the mean of its rows, all classes the covariance ``S = sum of (x - mean of its class)(...)' / n``. After
    any sequence of ``partial_fit``, ``forget`` and ``merge``, in any order, these are the moments of all rows that are
    in, so the model is that of one fit. New classes may appear in any batch.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front. It is not changed: the model works with a fitted copy.
    priors : {"empirical", "uniform"} or array-like of shape (n_classes,), default="empirical"
        Shares of the classes: those of the rows, equal ones, or given ones above 0 in the order of ``classes_``.
    shrinkage : None, float in [0, 1] or "auto", default=None
        Share of the mean variance, times the identity, in S. "auto" is the oracle approximating shrinkage, which needs
        the sums alone (the Ledoit-Wolf rule needs the rows).
    ridge : float, default=None
        Added to the diagonal of S. None adds nothing where S has full rank, else 1e-8 times the mean variance (1 where
        no class varies at all); ``ridge_`` tells. 0 needs full rank.
    dtype : {None, "float64", "float32"}, default=None
        Type of the products; None is "float64".
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the feature map, where that has ``random_state=None``.
    verbose : int, default=0
        1 writes a line to stderr after each call that learns.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen, sorted; a class whose last row is forgotten leaves.
    class_count_ : ndarray of shape (n_classes,)
    means_ : ndarray of shape (n_classes, n_features)
    priors_ : ndarray of shape (n_classes,)
    shrinkage_ : float
    ridge_ : float
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    feature_map_ : the fitted map, or None
    state_ : GramState
        A copy of the sums.

    Notes
    -----
    Scores are ``x' S^-1 mean_c - mean_c' S^-1 mean_c / 2 + log prior_c``.
    Adding n rows costs n d^2 flops for d features, the first answer after a change d^3 / 3 + d^2 C for C classes, an
    answer d^2 + 2 d C a row; memory is 8 d^2 bytes and 24 bytes per class and feature. The state is that of
    `AnalyticClassifier`. Where classes have shares other than ``priors``, S is still pooled by the rows.

    Reference: "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import GaussianClassifier
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0], [6.0, 5.0], [5.0, 6.0]])
    >>> model = GaussianClassifier().partial_fit(X[:3], ["a"] * 3).partial_fit(X[3:], ["b"] * 3)
    >>> model.predict([[1.0, 1.0], [5.0, 4.0]])
    array(['a', 'b'], dtype='<U1')
    >>> model.ood_score([[0.3, 0.3], [9.0, 0.0]]).round(2).tolist()
    [-0.02, -134.0]
    """

    def __init__(
        self,
        feature_map=None,
        priors="empirical",
        shrinkage=None,
        ridge=None,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.feature_map = feature_map
        self.priors = priors
        self.shrinkage = shrinkage
        self.ridge = ridge
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # Learning: as the classifier of ridge regression does, whose sums these are.

    def partial_fit(self, X, y, classes=None, sample_weight=None, atomic=True):
        """Adds rows; see `AnalyticClassifier.partial_fit`. Returns self."""
        return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight, atomic=atomic)

    # Answers.

    def _scores(self, X):
        """Scores ``x'S^-1 mean_c - mean_c'S^-1 mean_c / 2 + log prior_c``, and the classes."""
        learnt, head = self._head()
        scores = head.scores(self._checked_rows(X, learnt))
        return scores, _labels.from_core(*head.classes(), learnt.form.dtype)

    def predict(self, X):
        """The class of the highest score for each row, the first of equals; ndarray of shape (n,)."""
        learnt, head = self._head()
        places = head.predict(self._checked_rows(X, learnt))
        return _labels.from_core(*head.classes(), learnt.form.dtype)[places]

    def predict_proba(self, X):
        """Posterior of the Gaussian model: ndarray of shape (n, n_classes)."""
        learnt, head = self._head()
        return head.predict_proba(self._checked_rows(X, learnt))

    def mahalanobis(self, X):
        """Squared distances ``(x - mean_c)' S^-1 (x - mean_c)``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_classes)
            Float64, not negative. n (d^2 + 2 d n_classes) flops.
        """
        learnt, head = self._head()
        return head.distances(self._checked_rows(X, learnt))

    def ood_score(self, X):
        """The negative squared distance to the nearest class: low for rows unlike all that were seen.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)

        Notes
        -----
        Source: "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks".
        """
        learnt, head = self._head()
        return head.ood_score(self._checked_rows(X, learnt))

    def ood_gradient(self, X):
        """Gradient of `ood_score` by the features, ``-2 S^-1 (x - mean of the nearest class)``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_features)
            By the mapped features where there is a feature map.
        """
        learnt, head = self._head()
        return head.ood_gradient(self._checked_rows(X, learnt))

    def ood_perturb(self, X, magnitude):
        """Rows moved a step towards their nearest class, ``x + magnitude * sign(gradient)``.

        Rows that belong to a class gain more score by it than others do, which can make `ood_score` tell more.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Dense.
        magnitude : float
            >= 0, in the units of the features.

        Returns
        -------
        ndarray of shape (n, d)

        Raises
        ------
        ValueError
            The model has a feature map: the gradient is one in feature space.

        Notes
        -----
        Source: "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", on
        features instead of pixels.
        """
        magnitude = _validate.check_number(magnitude, "magnitude")
        learnt, head = self._head()
        if learnt.feature_map is not None:
            raise ValueError("ood_perturb moves features, and this model has a feature map between rows and features")
        rows = self._checked_rows(X, learnt)
        if isinstance(rows, _validate.CSRRows):
            raise ValueError("ood_perturb needs dense rows: what it moves is dense")
        return rows + magnitude * np.sign(head.ood_gradient(rows))

    @property
    def means_(self):
        """Means of the classes."""
        return self._head()[1].means

    @property
    def priors_(self):
        """Shares of the classes in use."""
        return self._head()[1].priors

    @property
    def shrinkage_(self):
        """The shrinkage in use."""
        return self._head()[1].shrinkage

    @property
    def ridge_(self):
        """What was added to the diagonal of the covariance, beside the shrinkage."""
        return self._head()[1].ridge_used

    def _weights(self):
        return weights_of_two(*self._head()[1].weights())

    temperature_ = absent("temperature_")
    calibrate = absent("calibrate")
    gcv_at_edge_ = absent("gcv_at_edge_")
    report_ = absent("report_")

    def save(self, path):
        """Writes the model to one file, from which `gramian.load` goes on learning.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        """
        super().save(path, what="full")

    # How it is done.

    def _config(self):
        self._policy()
        return super()._config()

    def _policy(self):
        """The parameters of the Gaussian model, checked, in the form that goes into a file."""
        priors = self.priors
        if not isinstance(priors, str):
            try:
                values = np.asarray(priors, dtype=np.float64)
            except (TypeError, ValueError):
                values = np.empty((0, 0))
            if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (values <= 0).any():
                raise ValueError(
                    f"priors must be 'empirical', 'uniform' or finite numbers > 0, one per class, got {priors!r}"
                )
            priors = values.tolist()
        elif priors not in ("empirical", "uniform"):
            raise ValueError(f"priors must be 'empirical', 'uniform' or an array, got {priors!r}")
        shrinkage = self.shrinkage
        if shrinkage is not None and not (isinstance(shrinkage, str) and shrinkage == "auto"):
            shrinkage = _validate.check_number(shrinkage, "shrinkage")
            if shrinkage > 1:
                raise ValueError(f"shrinkage must be None, 'auto' or a number in [0, 1], got {self.shrinkage!r}")
        ridge = None if self.ridge is None else _validate.check_number(self.ridge, "ridge")
        return {"priors": priors, "shrinkage": shrinkage, "ridge": ridge}

    def _params_to_json(self):
        return {
            "feature_map": None if self.feature_map is None else self.feature_map._as_json(),
            **self._policy(),
            "dtype": None if self.dtype is None else np.dtype(self.dtype).name,
            "random_state": seed_to_json(self),
            "verbose": int(self.verbose),
        }

    def _head(self):
        """What was learnt and the Gaussian model of it, factored once per change."""
        learnt = self._trainable()

        def compute():
            if learnt.model.n_rows == 0:
                self._raise_not_fitted()
            params = learnt.params
            given = params["priors"] if isinstance(params["priors"], list) else []
            oracle = params["shrinkage"] == "auto"
            return _core.GaussianHead(
                model=learnt.model,
                priors="given" if given else params["priors"],
                given=given,
                shrinkage=0.0 if oracle or params["shrinkage"] is None else params["shrinkage"],
                oracle=oracle,
                ridge=-1.0 if params["ridge"] is None else params["ridge"],
            )

        return learnt, learnt.derived(compute)


class LayerCombination(Estimator):
    """A calibrated sum of out-of-distribution scores, made by `combine_layers`.

    Parameters
    ----------
    coef : array-like of shape (n_scores,)
    intercept : float

    Attributes
    ----------
    coef_ : ndarray of shape (n_scores,)
    intercept_ : float

    Notes
    -----
    Source: "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks".
    """

    def __init__(self, coef, intercept):
        self.coef = coef
        self.intercept = intercept

    @property
    def coef_(self):
        """Weights of the scores."""
        return _validate.check_vector(self.coef, "coef")

    @property
    def intercept_(self):
        """What is added to the weighted scores."""
        return _validate.check_number(self.intercept, "intercept", low=-np.inf)

    def score(self, scores):
        """Log odds that rows are in distribution.

        Parameters
        ----------
        scores : array-like of shape (n, n_scores)

        Returns
        -------
        ndarray of shape (n,)
        """
        scores = _score_table(scores, "scores")
        coef = self.coef_
        if scores.shape[1] != len(coef):
            raise ValueError(f"scores has {scores.shape[1]} columns, but {len(coef)} scores were combined")
        return scores @ coef + self.intercept_


def _score_table(scores, name):
    table = np.asarray(_validate.check_rows(scores, "combine_layers", name=name), dtype=np.float64)
    _validate.check_finite(table, name)
    return table


def combine_layers(in_scores, out_scores, ridge=1.0, *, n_jobs=None):
    """Weights that make one score of several, for example of the layers of a network, by logistic regression.

    Parameters
    ----------
    in_scores : array-like of shape (n, n_scores)
        Scores of rows in distribution, one column per layer, such as `GaussianClassifier.ood_score` gives.
    out_scores : array-like of shape (m, n_scores)
        The same for rows out of distribution.
    ridge : float, default=1.0
        > 0: penalty of the squared weights of scores scaled to unit variance (the inverse of scikit-learn's ``C``).
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    LayerCombination

    Notes
    -----
    Iteratively reweighted least squares, each step a ridge regression on the sums of working responses, with the step
    halved while the loss rises: (n + m) n_scores^2 flops a step, and a handful of steps. Source: "A Simple Unified
    Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import combine_layers
    >>> both = combine_layers([[2.0, 0.1], [3.0, -0.2], [2.5, 0.3]], [[0.0, 0.2], [1.0, -0.1], [2.2, 0.0]])
    >>> bool((both.score([[3.0, 0.0]]) > both.score([[0.0, 0.0]])).all())
    True
    """
    inside, outside = _score_table(in_scores, "in_scores"), _score_table(out_scores, "out_scores")
    if inside.shape[1] != outside.shape[1]:
        raise ValueError(f"in_scores has {inside.shape[1]} columns and out_scores {outside.shape[1]}")
    ridge = _validate.check_number(ridge, "ridge", strict=True)
    table = np.vstack([inside, outside])
    mean, deviation = table.mean(axis=0), table.std(axis=0)
    deviation[deviation == 0] = 1.0  # a constant score tells nothing, and its weight will be 0
    labels = np.repeat(np.array([1, 0], dtype=np.uint8), [len(inside), len(outside)])
    coef, intercept = _core.logistic_weights((table - mean) / deviation, labels, ridge, "cpu", thread_count(n_jobs))
    coef = coef / deviation
    return LayerCombination(coef, float(intercept - coef @ mean))


class _MomentClassifier(Composite, _ClassModel):
    """Base of the classifiers that solve ridge regression on rows known by the moments of their classes."""

    _held = ("_learnt",)

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        standardize=False,
        fit_intercept=True,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.feature_map = feature_map
        self.ridge = ridge
        self.ridges = ridges
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Adds rows, all or none of them; arguments as in `AnalyticClassifier.partial_fit`. Returns self."""
        return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)

    def forget(self, X, y, sample_weight=None):
        """Takes rows out again, exactly; arguments as in `AnalyticClassifier.forget`. Returns self."""
        return super().forget(X, y, sample_weight=sample_weight)

    def _scores(self, X):
        learnt, solved = self._solved()
        scores = solved.scores(self._checked_rows(X, learnt))
        return scores, _labels.from_core(*solved.classes()[:2], learnt.form.dtype)

    def predict(self, X):
        """The class of the highest score for each row, the first of equals; ndarray of shape (n,)."""
        learnt, solved = self._solved()
        places, kind, values = solved.predict(self._checked_rows(X, learnt))
        return _labels.from_core(kind, values, learnt.form.dtype)[places]

    def predict_proba(self, X):
        """Softmax of the scores over the noise variance that the sums know; ndarray of shape (n, n_classes)."""
        learnt, solved = self._solved()
        return solved.predict_proba(self._checked_rows(X, learnt))

    @property
    def ridge_(self):
        """The ridge in use."""
        return self._solved()[1].ridge_used

    @property
    def gcv_at_edge_(self):
        """Whether "gcv" chose an end of its grid."""
        return self._solved()[1].gcv_at_edge

    @property
    def report_(self):
        """How the weights were solved (SolveReport)."""
        return report_of(self._solved()[1].solution()[2])

    @property
    def temperature_(self):
        """Temperature of `predict_proba`."""
        return self._solved()[1].temperature

    @property
    def state_(self):
        """A copy of the sums that the weights are solved from, made of moments (GramState)."""
        learnt, solved = self._solved()
        return GramState._wrap(solved.state(), learnt.device, self.n_jobs)

    def _weights(self):
        return weights_of_two(*self._solved()[1].solution()[:2])

    calibrate = absent("calibrate")
    close_classes = absent("close_classes")
    merge = absent("merge")
    to_bytes = absent("to_bytes")
    unmerge = absent("unmerge")
    _merge_sums = absent("merge_sums")

    def _ridge_config(self):
        """Arguments of the compiled functions that solve."""
        if isinstance(self.ridge, str) and self.ridge != "gcv":
            raise ValueError(f"ridge must be a number >= 0 or 'gcv', got {self.ridge!r}")
        config = AnalyticClassifier(
            ridge=self.ridge,
            ridges=self.ridges,
            standardize=self.standardize,
            fit_intercept=self.fit_intercept,
            dtype=self.dtype,
            device=self.device,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )._config()
        taken = {name: config[name] for name in ("ridge", "ridges", "standardize", "products", "intercept")}
        return {**taken, "gcv": config["rule"] == "gcv"}

    def _config(self):
        self._ridge_config()
        return super()._config()

    def _params_to_json(self):
        return self._ridge_config()

    def _of_single_classes(self):
        """Whether each class has sums of its own."""
        return True

    def _empty(self, config, n_inputs, fitted_map, names, form, n_outputs):
        if not self._of_single_classes():
            return super()._empty(config, n_inputs, fitted_map, names, form, n_outputs)
        model = _core.ClassMoments(
            n_inputs=n_inputs,
            feature_map=None if fitted_map is None else fitted_map._handle(),
            products=config["products"],
            device=config["device"],
            threads=config["threads"],
            rank=self._rank_of_classes(),
            keep_inputs=self._keeps_inputs() and fitted_map is not None,
        )
        return Learnt(model, fitted_map, names, form, params_of(self), config["device"], config["threads"])

    def _rank_of_classes(self):
        """Directions that are kept of each class, -1 for all."""
        return -1

    def _keeps_inputs(self):
        """Whether the moments of what comes before the feature map are needed too."""
        return False

    # In files.

    @staticmethod
    def _params_from_solver(solver):
        """Parameters from the arguments that were made of them."""
        params = dict(solver)
        products, params["fit_intercept"] = params.pop("products"), params.pop("intercept")
        params["dtype"] = None if products == "float64" else products
        params["ridges"] = params["ridges"] or None
        if params.pop("gcv"):
            params["ridge"] = "gcv"
        return params

    def _params_in_file(self):
        return {**self.get_params(deep=False), **self._params_from_solver(self._trainable().params)}

    def _parts(self):
        learnt = self._trainable()
        model = learnt.model
        data = model.save_bytes(False, "") if isinstance(model, _core.Classifier) else model.save_bytes("")
        about = {"solver": learnt.params, "names": names_to_json(learnt.names), **learnt.form.to_json()}
        return Parts(about, models={"moments": data})

    def _take_parts(self, parts, device, n_jobs):
        solver, data = parts.learnt["solver"], parts.models["moments"]
        begun = type(self)(**self._params_from_solver(solver))  # with the parameters of that time
        if begun._params_to_json() != solver:
            raise ValueError("parameters that no model has")
        device, threads = _validate.device_name(device), thread_count(n_jobs)
        if begun._of_single_classes():
            model = _core.load_class_moments(data, device, threads)[0]
            if model.rank != begun._rank_of_classes():
                raise ValueError("sums of another rank")
            if model.keeps_inputs != (begun._keeps_inputs() and model.feature_map is not None):
                raise ValueError("sums of other rows")
        else:
            model = _core.load_model_bytes(data, device, threads)[1]
            if not isinstance(model, _core.Classifier) or not model.has_state:
                raise ValueError("sums of another kind of model")
        form = LabelForm.from_json(parts.learnt, model, None)
        names = names_from_json(parts.learnt["names"], model.n_inputs)
        if form.multi:
            raise ValueError("several labels a row")
        self._learnt = Learnt(model, from_handle(model.feature_map), names, form, solver, device, threads)

    def _fitted_map(self):
        return self._learnt.feature_map

    def _solved(self):
        """What was learnt and the compiled classifier of it, made once per change."""
        learnt = self._trainable()

        def compute():
            if learnt.model.n_rows == 0:
                self._raise_not_fitted()
            return self._solve(learnt)

        return learnt, learnt.derived(compute)


class TranslatedClassifier(_MomentClassifier):
    """Class-incremental ridge regression that keeps nothing of past classes but their centroids.

    Each past class is given the rows of the present class whose centroid has the largest cosine with its own, moved to
    its centroid. No such row is ever made: with n, s and G the sums of the rows of that class and delta the way between
    the centroids, theirs are ``G + delta s' + s delta' + n delta delta'`` and ``n`` times the past centroid.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front; rows are then moved in the space of the features.
    ridge, ridges, standardize, fit_intercept
        Of the ridge regression; see `AnalyticClassifier`.
    dtype, device, n_jobs, random_state, verbose
        See `AnalyticClassifier`.

    Attributes
    ----------
    classes_, coef_, intercept_, class_count_, ridge_, report_, n_features_in_, feature_names_in_, state_
        As of `AnalyticClassifier`.
    centroids_ : ndarray of shape (n_classes, n_features)
    past_ : ndarray of bool of shape (n_classes,)
        Classes of which only the centroid is left.

    Notes
    -----
    Of equal cosines the first class in order counts; the cosine with a centroid of zero length is zero. Memory is 4 d^2
    bytes for each class of the present phase and 8 d for each past one; the weights cost C d^2 + d^3 / 3 flops.

    Reference: "FeTrIL: Feature Translation for Exemplar-Free Class-Incremental Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import TranslatedClassifier
    >>> X = np.array([[0.0, 1.0], [0.2, 1.1], [1.0, 0.0], [1.1, 0.1], [2.0, 2.0], [2.1, 2.2]])
    >>> model = TranslatedClassifier(ridge=0.01).partial_fit(X[:4], ["a", "a", "b", "b"])
    >>> model.end_phase().partial_fit(X[4:], ["c", "c"]).past_
    array([ True,  True, False])
    >>> model.predict(X)
    array(['a', 'a', 'b', 'b', 'c', 'c'], dtype='<U1')
    """

    def end_phase(self):
        """The next rows begin a new phase: with them, all classes there are become past.

        Until then nothing changes. In a new phase a row of a past class is a ValueError. Returns self.
        """
        with self._lock():
            self._trainable().model.end_phase()
        return self

    @property
    def centroids_(self):
        """Centroids of the classes."""
        return self._trainable().model.centroids()[0]

    @property
    def past_(self):
        """Whether only the centroid of a class is left."""
        return np.array(self._trainable().model.centroids()[1], dtype=bool)

    @staticmethod
    def _solve(learnt):
        return learnt.model.translated(**learnt.params)


class AlignedClassifier(_MomentClassifier):
    """Ridge regression on infinitely many rows with the moments of each class, class weights of choice.

    The weights are those of a fit on ``w_c`` rows' worth of a distribution with the mean and covariance of class c,
    so of classes that are balanced, or weighed otherwise, although the rows were not. No rows are drawn.

    Parameters
    ----------
    feature_map, ridge, ridges, standardize, fit_intercept, dtype, device, n_jobs, random_state, verbose
        See `AnalyticClassifier`. A multiple e of the identity on each covariance is e times the sum of the ``w_c`` more
        ridge.
    covariance : {"tied", "full", "diagonal", "low_rank"}, default="tied"
        "tied": one for all classes, 8 d^2 bytes. "full": one for each, 4 d^2 bytes a class. "diagonal": the variances
        of each class, 16 d bytes a class. "low_rank": the `rank` strongest directions of each class and, of what is
        left, the variances, 8 d (rank + 2) bytes a class.
    class_totals : {"balanced", "empirical"} or array-like of shape (n_classes,), default="balanced"
        ``w_c``: the rows divided by the classes; the rows of each class, which with "full" is plain ridge regression;
        or numbers above 0 in the order of ``classes_``.
    rank : int, default=32
        >= 0, of "low_rank"; not looked at otherwise.

    Attributes
    ----------
    classes_, coef_, intercept_, class_count_, ridge_, report_, n_features_in_, feature_names_in_, state_
        As of `AnalyticClassifier`.
    gram_error_bound_ : float
        How far, in the spectral norm, the matrix of the system may be from that of "full": 0 for "full" itself, not
        there for "tied".

    Notes
    -----
    With "full" and the biased covariances of the rows, this is ridge regression with the weight ``w_c / n_c`` for each
    row of class c, exactly: with balanced totals that of ``class_weight="air"``, but for the scale of the ridge.
    Solving costs C d^2 + d^3 / 3 flops.

    "diagonal" and "low_rank" are the approximations for many classes. Means, variances and Q stay exact, so the weights
    W of "full" and those found here, V, differ by ``|W - V| <= gram_error_bound_ / ridge |V|`` in the Frobenius norm
    (without ``standardize``). A class takes b = max(rank, 64) rows at a time, for 3 (rank + b)^2 d + 9 (rank + b)^3
    flops; solving costs C d^2 rank flops more. Rows cannot be forgotten: what one left behind is not known any more.

    References: "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model"; "Frequent
    directions: simple and deterministic matrix sketching" (truncation by blocks; the diagonal is this library's).

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AlignedClassifier
    >>> X = np.array([[0.0], [0.2], [0.1], [0.3], [1.0], [1.2]])
    >>> model = AlignedClassifier(ridge=1e-6).fit(X, [0, 0, 0, 0, 1, 1])
    >>> round(float(-model.intercept_[0] / model.coef_[0, 0]), 3)  # half way between the means
    0.625
    """

    def __init__(
        self,
        feature_map=None,
        covariance="tied",
        class_totals="balanced",
        ridge=1.0,
        ridges=None,
        standardize=False,
        fit_intercept=True,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
        rank=32,
    ):
        super().__init__(
            feature_map, ridge, ridges, standardize, fit_intercept, dtype, device, n_jobs, random_state, verbose
        )
        self.covariance = covariance
        self.class_totals = class_totals
        self.rank = rank

    def _params_to_json(self):
        if not isinstance(self.covariance, str) or self.covariance not in ("tied", "full", "diagonal", "low_rank"):
            raise ValueError(f"covariance must be 'tied', 'full', 'diagonal' or 'low_rank', got {self.covariance!r}")
        weight = self.class_totals
        if not isinstance(weight, str):
            try:
                weight = np.asarray(weight, dtype=np.float64)
            except (TypeError, ValueError):
                weight = np.empty(0)
            if weight.ndim != 1 or not weight.size or not np.isfinite(weight).all() or (weight <= 0).any():
                raise ValueError(
                    "class_totals must be 'balanced', 'empirical' or finite numbers > 0, one per class, got "
                    f"{self.class_totals!r}"
                )
            weight = weight.tolist()
        elif weight not in ("balanced", "empirical"):
            raise ValueError(f"class_totals must be 'balanced', 'empirical' or an array, got {weight!r}")
        about = {"covariance": self.covariance, "class_totals": weight}
        if self.covariance == "low_rank":
            about["rank"] = self._rank_of_classes()
        return {**self._ridge_config(), **about}

    def _config(self):
        self._params_to_json()
        return super()._config()

    def _of_single_classes(self):
        return self.covariance != "tied"

    def _rank_of_classes(self):
        if self.covariance == "low_rank":
            return _validate.check_count(self.rank, "rank", low=0)
        return 0 if self.covariance == "diagonal" else -1

    @property
    def gram_error_bound_(self):
        """Bound of the spectral norm of what the covariances leave out."""
        learnt = self._solved()[0]
        if isinstance(learnt.model, _core.Classifier):
            raise AttributeError("covariance='tied' is another model than 'full': there is no gram_error_bound_")
        return learnt.model.align_error(self._class_totals(learnt))

    @staticmethod
    def _class_totals(learnt):
        """The weight of each class."""
        weight, model = learnt.params["class_totals"], learnt.model
        tied = isinstance(model, _core.Classifier)
        totals = np.asarray(_core.class_weights(model) if tied else model.class_weights())
        if weight == "balanced":
            weight = np.full(len(totals), totals.sum() / len(totals))
        elif weight == "empirical":
            weight = totals
        if len(weight) != len(totals):
            raise ValueError(f"class_totals has {len(weight)} values for {len(totals)} classes")
        return list(weight)

    @classmethod
    def _solve(cls, learnt):
        config = {k: v for k, v in learnt.params.items() if k not in ("covariance", "class_totals", "rank")}
        return _core.aligned(learnt.model, cls._class_totals(learnt), **config)
