# SPDX-License-Identifier: GPL-2.0
"""Where a graph's vertices go in a picture: distances on paper like distances in the graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

ROUNDS = 200
STILL = 1e-4


def distances(count: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Hops between each two of 0..count-1; parts that don't meet are a little further apart than
    the longest way in any of them."""
    near: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    found = []
    longest = 0
    for source in range(count):
        row = [-1] * count
        row[source] = 0
        queue = deque([source])
        while queue:
            vertex = queue.popleft()
            for other in near[vertex]:
                if row[other] < 0:
                    row[other] = row[vertex] + 1
                    queue.append(other)
        longest = max(longest, *row)
        found.append(row)
    return [[longest + 1 if hops < 0 else hops for hops in row] for row in found]


def stress(count: int, edges: Sequence[tuple[int, int]]) -> Any:
    """Positions, an array of (count, 2), with neighbours about 1 apart, wider than high.

    Stress majorization (Gansner, Koren, North 2004): from classical scaling, each round moves all
    to where the weighted squared errors of distances are less.  Needs numpy; nothing is random.
    """
    import numpy as np

    if count < 3:
        return np.array([[float(index), 0.0] for index in range(count)]).reshape(count, 2)
    wanted = np.array(distances(count, edges), dtype=float)
    squared = wanted**2
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    place = vectors[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 1e-9))
    # Vertices that scaling can't tell apart (leaves of one node) would never part.
    angle = np.arange(count) * 2.399963
    place = place + 0.002 * np.column_stack([np.cos(angle), np.sin(angle)])
    np.fill_diagonal(wanted, 1)
    weights = wanted**-3  # a link's length counts most: leaves then lie on a circle
    np.fill_diagonal(weights, 0)
    laplacian = np.diag(weights.sum(1)) - weights
    inverse = np.linalg.pinv(laplacian)
    for _ in range(ROUNDS):
        apart = place[:, None, :] - place[None, :, :]
        length = np.sqrt((apart**2).sum(2))
        np.fill_diagonal(length, 1)
        pull = -weights * wanted / np.maximum(length, 1e-9)
        np.fill_diagonal(pull, 0)
        np.fill_diagonal(pull, -pull.sum(1))
        moved = inverse @ (pull @ place)
        change = np.abs(moved - place).max()
        place = moved
        if change < STILL:
            break
    return _upright(place)


def _upright(place: Any) -> Any:
    """Turned so that the longest extent is from left to right, the first vertex on the left."""
    import numpy as np

    place = place - place.mean(0)
    _, axes = np.linalg.eigh(place.T @ place)
    place = place @ axes[:, ::-1]
    for axis, sign in ((0, 1), (1, -1)):
        if sign * place[0, axis] > 1e-6:
            place[:, axis] *= -1
    return place


def enough(place: Any, sizes: Sequence[tuple[float, float]], share: float) -> float:
    """By how much to multiply `place` so that this share of boxes overlaps with no other."""
    import numpy as np

    if len(place) < 2:
        return 1.0
    half = np.array(sizes, dtype=float)
    wanted = (half[:, None, :] + half[None, :, :]) / 2
    apart = np.maximum(np.abs(place[:, None, :] - place[None, :, :]), 1e-6)
    needed = (wanted / apart).min(2)
    np.fill_diagonal(needed, 0)
    return float(np.quantile(needed.max(1), share))


def part(place: Any, sizes: Sequence[tuple[float, float]]) -> Any:
    """Boxes of these (width, height) at `place`, each pushed as far as it takes that they don't
    overlap, as far as a few hundred rounds bring it."""
    import numpy as np

    place = np.array(place, dtype=float)
    half = np.array(sizes, dtype=float)
    wanted = (half[:, None, :] + half[None, :, :]) / 2
    order = np.arange(len(place))
    side = np.where(order[:, None] < order[None, :], -1.0, 1.0)
    for _ in range(ROUNDS):
        apart = place[:, None, :] - place[None, :, :]
        over = wanted - np.abs(apart)
        hit = (over > 1e-6).all(2)
        np.fill_diagonal(hit, False)
        if not hit.any():
            break
        across = over[:, :, 0] < over[:, :, 1]
        for axis, chosen in ((0, hit & across), (1, hit & ~across)):
            sign = np.where(apart[:, :, axis] == 0, side, np.sign(apart[:, :, axis]))
            push = np.where(chosen, sign * (over[:, :, axis] / 2 + 1e-3), 0)
            place[:, axis] += push.sum(1) / np.maximum(chosen.sum(1), 1)
    return place
