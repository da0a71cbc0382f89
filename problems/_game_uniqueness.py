"""Whether an exact l1 game is known to have one equilibrium.

Player j minimises 1/2 (x_j - y_j)^2 + sum_k a_jk |x_j - x_k| over x_j, every a_jk > 0. A pair is flat where x_j = x_k.

If the flat pairs of some equilibrium x form a forest, x is the only one. Let x' be another, d = max(x - x') > 0, S the
players who attain it, and C a part of S that pairs flat in x join. For j in C and a neighbour k outside C, x_j - x_k >=
x'_j - x'_k, and equality leaves a pair that is not flat, whose u is the same in both; so u_jk >= u'_jk. Along the pairs
inside C, which form a tree, there are c_j > 0 with c_j a_jk = c_k a_kj, and sum_C c_j (M u)_j does not see them. So
sum_C c_j (M u)_j >= sum_C c_j (M u')_j, and as x = y - M u, d sum_C c_j <= 0: a contradiction; likewise for x' - x.

The same holds wherever such c exist on the cycles of flat pairs too: for symmetric weights always, and for those that
`_can_be_made_symmetric` of tv_game.py knows. Without them a cycle of flat pairs with |u| < 1 leaves x_C free, a
continuum of equilibria (README.md; `continuum` in tv_game.py).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from problems._portable import solve, total

ROUND = 200
"""Steps between two looks."""
ROUNDS = 100
SETTLED = 1e-9
"""Residual at which a pattern that is no forest is believed."""


def has_one_equilibrium(
    starts: Int[np.ndarray, " k"],
    ends: Int[np.ndarray, " k"],
    ahead: Float[np.ndarray, " k"],
    back: Float[np.ndarray, " k"],
    y: Float[np.ndarray, "b n"],
) -> bool:
    """True where, for every row of y, an equilibrium was found and proved whose flat pairs form a forest.

    False says that none was found, not that there are several. By dual projection, u <- clip(u + s K (y - M u)), and
    one linear system of n unknowns on the pattern of the moment, whose solution is checked. ROUND * ROUNDS steps at
    most, O(b k) each, and n^3 for the system.
    """
    if not (np.minimum(ahead, back) > 0).all():
        return False
    k, n = len(starts), y.shape[1]
    of_start, of_end = (sparse.csr_array((np.ones(k), (of, np.arange(k))), (n, k)) for of in (starts, ends))
    K = sparse.csr_array((of_start - of_end).T)
    M = sparse.csr_array(of_start * ahead - of_end * back)

    def differences(u: Float[np.ndarray, "k b"]) -> Float[np.ndarray, "k b"]:
        """K (y - M u), in sums of numbers times 1 or -1, which no machine rounds in its own way."""
        return K @ (y.T - (of_start @ (ahead[:, None] * u) - of_end @ (back[:, None] * u)))

    turn = abs(sparse.csr_array(K @ M))
    step = 1.0 / np.sqrt(turn.sum(0).max() * turn.sum(1).max())
    proved = np.zeros(len(y), bool)
    u = np.zeros((k, len(y)))
    for _ in range(ROUNDS):
        for _ in range(ROUND):
            last, u = u, np.clip(u + step * differences(u), -1.0, 1.0)
        z = differences(u)
        flat = abs(z) < np.abs(y).max() * (1.0 - abs(u))
        for pair in np.flatnonzero(~proved):
            if _proves(K, M, y[pair], flat[:, pair], np.sign(z[:, pair])):
                proved[pair] = True
            elif abs(u - last)[:, pair].max() <= SETTLED * step:
                return False
        if proved.all():
            return True
    return False


def _proves(
    K: sparse.csr_array,
    M: sparse.csr_array,
    y: Float[np.ndarray, " n"],
    flat: Bool[np.ndarray, " k"],
    signs: Float[np.ndarray, " k"],
) -> bool:
    """Whether the flat pairs form a forest and their pattern holds an equilibrium, strictly on its side of every kink.

    x is one number per component, so x and u on the forest are n numbers, and x + M u = y says what they are.
    """
    pairs, n = np.flatnonzero(flat), len(y)
    K0 = K[pairs]
    count, member = connected_components(abs(K0).T @ abs(K0), directed=False)
    if len(pairs) != n - count:
        return False
    system = np.concatenate([np.eye(count)[member], M[:, pairs].toarray()], 1)
    moving = np.where(flat, 0.0, signs)
    solution = solve(system, y - total(M.toarray() * moving))
    z = K @ solution[:count][member]
    return bool((abs(solution[count:]) < 1.0).all() and (np.sign(z[~flat]) == moving[~flat]).all())
