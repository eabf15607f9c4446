"""A sample that stands for the whole: shares by stratum first, then as different as possible within each.

Within a stratum conversations are picked by greedy k-centre (Gonzalez 1985, "Clustering to minimize the maximum
intercluster distance"): the first is the most central one, each next the farthest from all picked. A pick stands for
the conversations closest to it, so weights add up to the stratum. Repeated texts (mass messages, bare greetings) lie
at distance zero from each other: one pick covers them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

from jobs.errors import InputError

FloatArray = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], FloatArray]

CANDIDATES_A_PICK = 50
"""A large stratum is thinned at random to so many candidates for each pick; the weights are scaled back."""

COLUMNS = ("conversation_id", "stratum", "stratum_population", "stratum_share", "weight", "share")


def allocate(populations: Sequence[int], size: int) -> list[int]:
    """How many picks each stratum gets: in proportion (largest remainder), at least one each while `size` allows.

    With more strata than picks the largest get one each.
    """
    total = sum(populations)
    size = min(size, total)
    order = sorted(range(len(populations)), key=lambda i: (-populations[i], i))
    picks = [0] * len(populations)
    for index in order[:size]:
        picks[index] = 1 if populations[index] else 0
    wanted = [size * population / total for population in populations] if total else []
    while sum(picks) < size:
        open_strata = [i for i in order if picks[i] < populations[i]]
        picks[max(open_strata, key=lambda i: wanted[i] - picks[i])] += 1
    return picks


def lexical_embedding(texts: Sequence[str], seed: int, dimensions: int = 64) -> FloatArray:
    """(n, d) float32 unit rows without a model: SVD of hashed character 2-4-gram TF-IDF. Fast enough for millions."""
    hashed = HashingVectorizer(analyzer="char", ngram_range=(2, 4), n_features=2**16, alternate_sign=False)
    table = TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))
    dimensions = min(dimensions, table.shape[0] - 1)
    if dimensions < 1:
        return np.ones((len(texts), 1), dtype=np.float32)
    return np.asarray(normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(table)), dtype=np.float32)


def k_centre(vectors: FloatArray, picks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Greedy k-centre over (n, d) unit rows.

    Returns:
        Rows picked, (picks,) in order, and for each of the n rows the number of the pick closest to it.
    """
    first = int(np.argmax(vectors @ vectors.mean(axis=0)))
    chosen = [first]
    nearest = 1.0 - vectors @ vectors[first]
    owner = np.zeros(len(vectors), dtype=np.int64)
    while len(chosen) < picks:
        nearest[chosen] = -1.0  # a picked row is never the farthest, even among copies of itself
        row = int(np.argmax(nearest))
        distance = 1.0 - vectors @ vectors[row]
        closer = distance < nearest
        owner[closer] = len(chosen)
        nearest = np.minimum(nearest, distance)
        owner[row] = len(chosen)
        chosen.append(row)
    return np.array(chosen, dtype=np.int64), owner


def stratified_diverse(
    frame: pd.DataFrame, strata: Sequence[str], size: int, *, seed: int, embed: Embed | None = None
) -> pd.DataFrame:
    """Pick `size` conversations: seeded, stratified by the columns `strata`, diverse by text within each stratum.

    `frame` has `conversation_id`, `text` and the columns of `strata`. `embed` turns texts into (n, d) unit rows and
    defaults to `lexical_embedding`. The order of rows does not matter.

    Returns:
        One row a pick, largest stratum first: `conversation_id`; `stratum` (values joined by " / ");
        `stratum_population` (conversations) and `stratum_share` of all (0..1); `weight` (conversations this pick
        stands for; over a stratum they add up to its population) and `share` (the same of all, 0..1). A stratum that
        got no pick, because there are more strata than picks, is missing from the sum.

    Raises:
        InputError: a column is missing, an id is repeated, or `size` is not positive.
    """
    missing = [column for column in ("conversation_id", "text", *strata) if column not in frame.columns]
    if missing:
        raise InputError(f"sampling needs the columns {', '.join(missing)}")
    if size < 1:
        raise InputError(f"sample size {size}: must be at least 1")
    if frame["conversation_id"].duplicated().any():
        raise InputError("sampling needs each conversation once: conversation_id is repeated")
    frame = frame.sort_values("conversation_id", kind="stable").reset_index(drop=True)
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    if strata:
        names = frame[list(strata)].astype("string").fillna("?").agg(" / ".join, axis=1)
    else:
        names = pd.Series("all", index=frame.index)
    populations = names.value_counts(sort=False).sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    picks = allocate([int(count) for count in populations], size)
    parts = [
        _pick(frame[names == stratum], str(stratum), count, len(frame), seed + number, embed)
        for number, (stratum, count) in enumerate(zip(populations.index, picks, strict=True))
        if count
    ]
    return pd.concat(parts, ignore_index=True)


def _pick(
    members: pd.DataFrame, stratum: str, picks: int, everyone: int, seed: int, embed: Embed | None
) -> pd.DataFrame:
    population = len(members)
    candidates = members
    if population > picks * CANDIDATES_A_PICK:
        candidates = members.sample(picks * CANDIDATES_A_PICK, random_state=seed).sort_values("conversation_id")
    texts = candidates["text"].astype(str).tolist()
    vectors = embed(texts) if embed else lexical_embedding(texts, seed)
    rows, owner = k_centre(np.asarray(vectors, dtype=np.float32), picks)
    weight = np.bincount(owner, minlength=picks) * (population / len(candidates))
    return pd.DataFrame(
        {
            "conversation_id": candidates["conversation_id"].to_numpy()[rows],
            "stratum": stratum,
            "stratum_population": population,
            "stratum_share": population / everyone,
            "weight": weight,
            "share": weight / everyone,
        }
    )
