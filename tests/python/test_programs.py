"""Random programs of everything that a state can do, against one batch solve on the rows that survived.

1,000 programs on GramState with standard-normal rows agree to 1e-10, and 400 on AnalyticClassifier; 600 more on
GramState with rows scaled by up to 1e6 stay within the bound that the report prints.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference_path import analytic, checks

import gramian as gm

BAR = 1e-10


def programs(count):
    """The same programs at every run, and as many as are named."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


OPERATIONS = st.sampled_from(["add", "remove", "remove_part", "merge", "unmerge", "grow", "save", "load", "copy"])
PROGRAM = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "d": st.integers(1, 12),
        "fit_intercept": st.booleans(),
        "labelled": st.booleans(),
        "weighted": st.booleans(),
        "ridge": st.sampled_from([0.1, 0.3, 1.0, 10.0]),
        "operations": st.lists(OPERATIONS, min_size=1, max_size=14),
    }
)


@dataclass
class Rows:
    """Rows of one call."""

    X: np.ndarray
    Y: np.ndarray  # numeric targets or class codes
    weight: np.ndarray | None

    def part(self, keep):
        return Rows(self.X[keep], self.Y[keep], None if self.weight is None else self.weight[keep])

    def count(self):
        """Rows of positive weight."""
        return len(self.X) if self.weight is None else int(np.count_nonzero(self.weight))


@dataclass
class Ledger:
    """What the rows in the state are, by the calls that brought them."""

    blocks: list = field(default_factory=list)
    removed: bool = False  # rows that count have left since the state was last empty
    terms: int = 0  # rows and operations since then

    def copy(self):
        """A ledger of its own; blocks are never changed, only replaced."""
        return replace(self, blocks=list(self.blocks))

    def took(self, rows):
        """Notes a removal."""
        self.removed |= rows.count() > 0
        if self.count() == 0:
            self.removed, self.terms = False, 0

    def rows(self):
        X = np.vstack([block.X for block in self.blocks])
        width = max(block.Y.shape[1] for block in self.blocks) if self.blocks[0].Y.ndim == 2 else 0
        if width:
            Y = np.vstack([np.pad(block.Y, ((0, 0), (0, width - block.Y.shape[1]))) for block in self.blocks])
        else:
            Y = np.concatenate([block.Y for block in self.blocks])
        weight = np.concatenate(
            [np.ones(len(block.X)) if block.weight is None else block.weight for block in self.blocks]
        )
        return X, Y, weight

    def count(self):
        return sum(block.count() for block in self.blocks)


class StateProgram:
    """One program on a GramState."""

    def __init__(self, plan, scale_exponents=(0, 0)):
        self.plan, self.scales = plan, scale_exponents
        self.rng = np.random.default_rng(plan["seed"])
        self.n_outputs = int(self.rng.integers(1, 4))
        self.state = self.empty()
        self.ledger = Ledger()
        self.truth = self.rng.normal(size=(plan["d"], 3))
        self.saved = None

    def empty(self):
        return gm.GramState(self.plan["d"], self.n_outputs, fit_intercept=self.plan["fit_intercept"])

    def draw(self, count=None):
        count = int(self.rng.integers(1, 41)) if count is None else count
        X = self.rng.normal(size=(count, self.plan["d"]))
        if self.plan["labelled"]:
            Y = self.rng.integers(0, self.n_outputs, size=count)
        else:
            Y = self.rng.normal(size=(count, self.n_outputs)) + np.resize(X @ self.truth, (count, self.n_outputs))
        weight = None
        if self.plan["weighted"]:
            weight = self.rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.2, 0.3, 0.3, 0.2], size=count)
        return Rows(X * 10.0 ** self.rng.integers(self.scales[0], self.scales[1] + 1), Y, weight)

    def call(self, state, verb, rows):
        name = verb + "_labels" if self.plan["labelled"] else verb
        Y = rows.Y
        if not self.plan["labelled"]:
            Y = np.pad(Y, ((0, 0), (0, self.n_outputs - Y.shape[1])))
        getattr(state, name)(rows.X, Y, rows.weight)
        self.ledger.terms += len(rows.X) + 1
        return state

    def some(self):
        return int(self.rng.integers(len(self.ledger.blocks)))

    def add(self):
        rows = self.draw()
        self.call(self.state, "add", rows)
        self.ledger.blocks.append(rows)

    def remove(self):
        rows = self.ledger.blocks.pop(self.some())
        self.call(self.state, "remove", rows)
        self.ledger.took(rows)

    def remove_part(self):
        at = self.some()
        rows = self.ledger.blocks[at]
        out = self.rng.random(len(rows.X)) < 0.5
        out[self.rng.integers(len(out))] = False  # a block that is taken out whole must have a row to take
        if out.any():
            self.call(self.state, "remove", rows.part(out))
            self.ledger.blocks[at] = rows.part(~out)
            self.ledger.took(rows.part(out))

    def merge(self):
        rows = self.draw()
        self.state.merge(self.call(self.empty(), "add", rows))
        self.ledger.blocks.append(rows)

    def unmerge(self):
        rows = self.ledger.blocks.pop(self.some())
        self.state.unmerge(self.call(self.empty(), "add", rows))
        self.ledger.took(rows)

    def grow(self):
        self.state.grow(1)
        self.n_outputs += 1

    def save(self):
        how = self.rng.choice(["file", "pickle", "bytes"])
        before = self.state.to_bytes()
        self.state = checks.reloaded(self.state, how, self.rng.choice([gm.load, gm.GramState.load]))
        assert self.state.to_bytes() == before

    def load(self):
        """Back to where the last `load` was: what has happened since has not."""
        if self.saved is not None:
            data, self.ledger, self.n_outputs = self.saved
            self.state = gm.GramState.from_bytes(data)
            done["load"] += 1
        self.saved = (self.state.to_bytes(), self.ledger.copy(), self.n_outputs)

    def copy(self):
        twin = self.state.copy()
        self.call(self.state, "add", self.draw(3))  # the original goes its own way
        self.state = twin

    def possible(self, name):
        """Whether there is anything to do it to."""
        return (self.ledger.blocks or name not in ("remove", "remove_part", "unmerge")) and (
            self.n_outputs < 6 or name != "grow"
        )

    def run(self):
        for name in self.plan["operations"]:
            if self.possible(name):
                getattr(self, name)()
                done[name] += name != "load"  # which counts itself where it has gone back
            assert self.state.n_rows == self.ledger.count()
        while self.ledger.count() < self.plan["d"] + 1:
            self.add()
        return self

    def expected(self):
        X, Y, weight = self.ledger.rows()
        if self.plan["labelled"]:
            Y = analytic.one_hot(Y, range(self.n_outputs))
        else:
            Y = np.pad(Y, ((0, 0), (0, self.n_outputs - Y.shape[1])))
        dtype = np.longdouble if self.scales[1] else np.float64
        weights = analytic.ridge(X, Y, self.plan["ridge"], weight, self.plan["fit_intercept"], dtype=dtype)
        return X, weight, weights


ran = {"state": 0, "classifier": 0, "scaled": 0}
done = Counter()  # operations of the programs on states


@programs(1000)
@given(PROGRAM)
def check_states(plan):
    program = StateProgram(plan).run()
    _, _, (coef, intercept) = program.expected()
    solution = program.state.solve(plan["ridge"])
    found, expected = checks.stacked(solution.coef, solution.intercept), checks.stacked(coef, intercept)
    if np.linalg.norm(expected) == 0:
        assert np.linalg.norm(found) <= BAR
    else:
        assert checks.relative_error(found, expected) <= BAR
    if plan["labelled"]:
        _, codes, weight = program.ledger.rows()
        counted = codes[weight > 0]
        assert np.array_equal(program.state.counts, np.bincount(counted, minlength=program.n_outputs))
    ran["state"] += 1


def test_programs_on_states():
    done.clear()
    check_states()
    assert ran["state"] >= 1000
    for name in ("add", "remove", "remove_part", "merge", "unmerge", "grow", "save", "load", "copy"):
        assert done[name] >= 100, done


@programs(600)
@given(PROGRAM)
def check_scaled_states(plan):
    program = StateProgram(plan, (0, 6)).run()
    X, weight, (coef, _) = program.expected()
    solution = program.state.solve(plan["ridge"])
    report = solution.report
    assert (report.removal_bound > 0) == program.ledger.removed
    assert f"removal_bound: {report.removal_bound}" in str(report)
    size = np.linalg.norm(coef.astype(np.float64))
    if size == 0 or program.state.largest_trace == 0:
        return
    # What any backward stable solve may lose, beside what removals lose.
    lambda_min = weighted_eigenvalue(X, weight, plan) + plan["ridge"]
    unit = checks.EPS * program.state.largest_trace / lambda_min
    solving = 4 * (plan["d"] + program.ledger.terms) * unit
    if program.ledger.removed and report.removal_bound > 0:
        # The bound of the report bounds all terms: no wider than all terms that ever went in would make it.
        terms = 16 * (program.ledger.terms + len(plan["operations"]) + 50)
        targets = np.sqrt(program.state.largest_energy / program.state.largest_trace) / np.linalg.norm(solution.coef)
        assert report.removal_bound <= terms * unit * (1 + targets)
        if report.removal_bound < 0.05:  # first order: beyond it, it says that the digits are gone
            error = checks.relative_error(solution.coef, coef)
            assert error <= report.removal_bound + 4 * plan["d"] * unit
            ran["scaled"] += 1
    elif solving < 0.05:
        assert checks.relative_error(solution.coef, coef) <= solving


def weighted_eigenvalue(X, weight, plan):
    problem = analytic.Problem(X, np.zeros((len(X), 1)), weight, plan["fit_intercept"])
    return max(np.linalg.eigvalsh(problem.gram(0.0))[0], 0.0)


def test_programs_on_rows_of_all_sizes():
    check_scaled_states()
    assert ran["scaled"] >= 50  # the bound has been put to the test


# --- the same with a classifier -------------------------------------------------------------------------------------


class ClassifierProgram:
    """One program on an AnalyticClassifier; classes come and go."""

    def __init__(self, plan):
        self.plan = plan
        self.rng = np.random.default_rng(plan["seed"])
        self.pool = list(self.rng.permutation(100)[:6])  # labels; "grow" brings one more into use
        self.known = 2
        self.features = gm.RandomFeatures(plan["d"], random_state=1) if self.rng.random() < 0.3 else None
        self.model = self.fresh()
        self.blocks = []
        self.saved = None

    def fresh(self):
        return gm.AnalyticClassifier(self.features, ridge=self.plan["ridge"], fit_intercept=self.plan["fit_intercept"])

    def draw(self, count=None):
        count = int(self.rng.integers(1, 41)) if count is None else count
        weight = self.rng.choice([0.0, 0.5, 1.0, 2.0], size=count) if self.plan["weighted"] else None
        return Rows(
            self.rng.normal(size=(count, self.plan["d"])),
            self.rng.choice(self.pool[: self.known], size=count),
            weight,
        )

    def call(self, model, verb, rows):
        getattr(model, verb)(rows.X, rows.Y, sample_weight=rows.weight)
        return model

    def some(self):
        return int(self.rng.integers(len(self.blocks)))

    def add(self):
        rows = self.draw()
        self.call(self.model, "partial_fit", rows)
        self.blocks.append(rows)

    def remove(self):
        if self.blocks:
            self.call(self.model, "forget", self.blocks.pop(self.some()))

    def remove_part(self):
        if self.blocks:
            at = self.some()
            rows = self.blocks[at]
            out = self.rng.random(len(rows.X)) < 0.5
            if out.any():
                self.call(self.model, "forget", rows.part(out))
                self.blocks[at] = rows.part(~out)

    def merge(self):
        rows = self.draw()
        self.model.merge(self.call(self.fresh(), "partial_fit", rows))
        self.blocks.append(rows)

    unmerge = remove  # the state's own word; a classifier forgets

    def grow(self):
        self.known = min(self.known + 1, len(self.pool))

    def save(self):
        if not self.blocks:
            return
        before = checks.file_bytes(self.model)
        self.model = checks.reloaded(self.model, self.rng.choice(["file", "pickle"]), gm.load)
        assert checks.file_bytes(self.model) == before

    def load(self):
        if self.saved is not None:
            self.model, self.blocks = self.saved
        self.saved = copy.deepcopy((self.model, self.blocks))

    def copy(self):
        twin = copy.deepcopy(self.model)
        self.call(self.model, "partial_fit", self.draw(3))
        self.model = twin

    def rows(self):
        X = np.vstack([block.X for block in self.blocks])
        y = np.concatenate([block.Y for block in self.blocks])
        weight = np.concatenate([np.ones(len(b.X)) if b.weight is None else b.weight for b in self.blocks])
        return X[weight > 0], y[weight > 0], weight[weight > 0]

    def run(self):
        for name in self.plan["operations"]:
            getattr(self, name)()
        while not self.blocks or len(self.rows()[0]) < self.plan["d"] + 1:
            self.add()
        return self


@programs(400)
@given(PROGRAM)
def check_classifiers(plan):
    program = ClassifierProgram(plan).run()
    X, y, weight = program.rows()
    Z = X if program.features is None else gm.RandomFeatures(plan["d"], random_state=1).fit_transform(X)
    classes, coef, intercept = analytic.joint_classifier(Z, y, plan["ridge"], weight, plan["fit_intercept"])
    assert np.array_equal(program.model.classes_, classes)
    assert np.array_equal(program.model.class_count_, [(y == label).sum() for label in classes])
    assert program.model.n_samples_seen_ == len(y)
    expected = Z @ coef.T + intercept
    if len(classes) == 2:
        expected = expected[:, 1] - expected[:, 0]
    found = program.model.decision_function(X)
    assert np.linalg.norm(found - expected) <= BAR * max(np.linalg.norm(Z @ coef.T + intercept), 1e-300)
    ran["classifier"] += 1


def test_programs_on_classifiers():
    check_classifiers()
    assert ran["classifier"] >= 400


def test_the_bound_is_about_removal(rng):
    """Rows of size 1e6 that came and went cost digits, and the report says how many at most; adding costs none."""
    X, Y = rng.normal(size=(200, 6)), rng.normal(size=(200, 2))
    huge = rng.normal(size=(100, 6)) * 1e6
    clean = gm.GramState(6, 2).add(X, Y)
    assert clean.solve(0.1).report.removal_bound == 0
    state = gm.GramState(6, 2).add(X, Y).add(huge, Y[:100]).remove(huge, Y[:100])
    solution = state.solve(0.1)
    coef, _ = analytic.ridge(X, Y, 0.1, dtype=np.longdouble)
    error = checks.relative_error(solution.coef, coef)
    assert checks.relative_error(clean.solve(0.1).coef, coef) <= checks.weight_bound(X, 0.1, 200)
    assert 1e-12 < error <= solution.report.removal_bound
    lambda_min = np.linalg.eigvalsh(analytic.Problem(X, Y).gram(0.1))[0]
    unit = checks.EPS * (huge**2).sum() / lambda_min
    assert 4 * unit <= solution.report.removal_bound <= 4 * 1000 * unit
    single = gm.GramState(6, 2, dtype="float32").add(X, Y).add(huge, Y[:100]).remove(huge, Y[:100])
    assert single.solve(0.1).report.removal_bound > 1e6 * solution.report.removal_bound


def test_many_removals_do_not_drift(rng):
    """Twice 2,000 small batches in and out: within eps times the number of sums of the largest Gram held."""
    X, Y = rng.normal(size=(300, 5)), rng.normal(size=(300, 1))
    state = gm.GramState(5, 1).add(X, Y)
    for k in range(2000):
        state.add(X[k % 290 : k % 290 + 8] * 3, Y[k % 290 : k % 290 + 8])
        state.remove(X[k % 290 : k % 290 + 8] * 3, Y[k % 290 : k % 290 + 8])
    drift = np.abs(state.moments()[0] - X.T @ X).max() / state.largest_trace
    assert drift <= 1e-12
    coef, _ = analytic.ridge(X, Y, 0.1)
    report = state.solve(0.1).report
    assert checks.relative_error(state.solve(0.1).coef, coef) <= min(report.removal_bound, BAR)
