"""Second-order engines as they are defined: dense matrices, one step at a time."""

import numpy as np


def fisher(G, ridge, m):
    """ridge I + G'G / m."""
    return ridge * np.eye(G.shape[1]) + G.T @ G / m


def fisher_inverse(G, ridge, m):
    """The inverse of that from the singular values of G, which loses no digits to a small ridge."""
    _, s, Vt = np.linalg.svd(G, full_matrices=False)
    return (np.eye(G.shape[1]) - Vt.T @ Vt) / ridge + (Vt.T / (ridge + s**2 / m)) @ Vt


def matrix_after(start, rows, forgetting, weight=1.0):
    """H after ``H <- forgetting H + weight x x'`` for each row."""
    H = np.array(start, dtype=np.float64)
    for x in rows:
        H = forgetting * H + weight * np.outer(x, x)
    return H


def wrong_inverse_after(P, rows, forgetting):
    """The same recursion on the inverse with the factor 1 / forgetting left out of it: what must be told apart."""
    for x in rows:
        k = P @ x
        P = P - np.outer(k, k) / (forgetting + x @ k)
    return P


class ExactKronecker:
    """L and R themselves, and their inverses by a dense solver."""

    def __init__(self, n_out, n_in, decay):
        self.L, self.R, self.decay = np.eye(n_out), np.eye(n_in), decay

    def update(self, l, r):  # noqa: E741  the names of the factors
        self.L = self.decay * self.L + (1 - self.decay) * np.outer(l, l)
        self.R = self.decay * self.R + (1 - self.decay) * np.outer(r, r)

    def precondition(self, g):
        return np.linalg.solve(self.L, g) @ np.linalg.inv(self.R)


class PaperKronecker:
    """The rule of the published program."""

    def __init__(self, n_out, n_in, decay, limit, stabilisation):
        self.P = [np.eye(n_out), np.eye(n_in)]
        self.decay, self.limit, self.stabilisation = decay, limit, stabilisation
        self.reset, self.resets = False, 0

    def update(self, l, r):  # noqa: E741
        for place, v in enumerate((l, r)):
            P, eye = self.P[place], np.eye(len(v))
            if self.reset:
                P = (1 - self.stabilisation) * P + self.stabilisation * eye
            else:
                P = self.decay * P + (1 - self.decay) * eye
                P = np.linalg.inv(np.linalg.inv(P) + np.outer(v, v))
            self.P[place] = P
        self.resets += self.reset
        self.reset = max(abs(P).max() for P in self.P) > self.limit


class AdaHessian:
    """One run of the rule, from the paper's formulas."""

    def __init__(self, rate, beta1, beta2, eps, power=1.0):
        self.rate, self.beta1, self.beta2, self.eps, self.power = rate, beta1, beta2, eps, power
        self.m, self.v, self.t = 0.0, 0.0, 0

    def step(self, w, g, d):
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * d**2
        m, v = self.m / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        return w - self.rate * m / (np.sqrt(v) ** self.power + self.eps)


def logistic_parts(X, y, classes, ridge, weights, sample_weight=None):
    """(value, gradient, Hessian) of the mean logistic or softmax loss by dense matrices, weights flat by rows."""
    n, c = len(X), 1 if len(classes) == 2 else len(classes)
    X1 = np.hstack([X, np.ones((n, 1))])
    w = np.ones(n) if sample_weight is None else sample_weight
    share = w / w.sum()
    W = weights.reshape(X1.shape[1], c)
    Z = X1 @ W
    if c == 1:
        Z = np.hstack([np.zeros((n, 1)), Z])
    Z = Z - Z.max(axis=1, keepdims=True)
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    Y = (np.asarray(y)[:, np.newaxis] == np.asarray(classes)).astype(float)
    penalty = ridge / w.sum() * np.append(np.ones(X.shape[1]), 0.0)
    value = -(share * np.log((P * Y).sum(axis=1))).sum() + (penalty[:, np.newaxis] * W**2).sum() / 2
    keep = slice(1, 2) if c == 1 else slice(None)
    gradient = X1.T @ (share[:, np.newaxis] * (P - Y)[:, keep]) + penalty[:, np.newaxis] * W
    H = np.zeros((W.size, W.size))
    for x, p, s in zip(X1, P[:, keep], share, strict=True):
        H += s * np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p))
    return value, gradient.ravel(), H + np.diag(np.repeat(penalty, c))


def softmax_loss(A, b, ridge, x):
    """The loss of softmax regression; x may be complex, for derivatives by complex steps."""
    y = A @ x
    f = np.exp(y - y.real.max())
    f = f / f.sum()
    return ((f - b) ** 2).sum() / 2 + ridge / 2 * (x**2).sum()


def complex_gradient(loss, x, step=1e-30):
    """The gradient without cancellation."""
    out = []
    for k in range(len(x)):
        moved = x.astype(complex)
        moved[k] += 1j * step
        out.append(loss(moved).imag / step)
    return np.array(out)


def conjugate_gradients(A, b, M=None, steps=None, rtol=0.0):
    """Textbook (preconditioned) conjugate gradients from zero: the iterates."""
    x, r = np.zeros_like(b), b.copy()
    z = r if M is None else M @ r
    p, rz, out = z.copy(), r @ z, []
    for _ in range(steps):
        Ap = A @ p
        alpha = rz / (p @ Ap)
        x, r = x + alpha * p, r - alpha * Ap
        out.append(x.copy())
        if np.linalg.norm(r) <= rtol * np.linalg.norm(b):
            break
        z = r if M is None else M @ r
        rz, old = r @ z, rz
        p = z + rz / old * p
    return out
