"""How well induced groups recover a reference, as DSTC11 track 2 measures it.

Method: Gung et al. 2023, "Intent Induction from Conversations for Task-Oriented Dialogue Track at DSTC 11"
(arXiv:2304.12982), section 4; the official figures come from `sitod/metric.py` of
github.com/amazon-science/dstc11-track2-intent-induction. Two habits of the official script are kept: where a turn has
several gold intents, the first one counts (`sitod/evaluate.py`), and a turn without gold takes no part. Unlike it, all
figures here lie in 0..1, not 0..100, and a turn may be put aside as small talk (`none`): that is no tag, so such a turn
is wrong where it has gold. NMI and ARI compare groups without partners; there the turns put aside are one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from jobs.errors import InputError
from jobs.induction.proposal import NO_INTENT


@dataclass(frozen=True, slots=True)
class InductionScores:
    """Agreement of found with gold tags over `turns` scored turns; all but the counts in 0..1 (`ari` from -0.5)."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    nmi: float
    ari: float
    tags_found: int
    tags_gold: int
    turns: int

    def to_dict(self) -> dict[str, float | int]:
        """As written to `induction.json`."""
        return asdict(self)


def overlap(found: Sequence[str], gold: Sequence[str]) -> npt.NDArray[np.int64]:
    """(found tags, gold tags) counts of turns that carry both, tags in sorted order; `none` is no found tag."""
    tags, rows = np.unique(np.asarray(found, dtype=object).astype(str), return_inverse=True)
    _, columns = np.unique(np.asarray(gold, dtype=object).astype(str), return_inverse=True)
    table = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    kept: npt.NDArray[np.int64] = table[tags != NO_INTENT]
    return kept


def score_induction(found: Sequence[str], gold: Sequence[Sequence[str]]) -> InductionScores | None:
    """Compare tags found with gold, turn by turn.

    `found` holds one tag a turn, `gold` the reference tags of the same turn (the first counts; empty: not scored).
    `accuracy`: share of turns right under the best one-to-one mapping (Hungarian method; surplus tags are wrong).
    `precision`: each found tag stands for its most frequent gold tag; `recall`: the other way round; `f1`: their
    harmonic mean. `tags_found` counts tags among the scored turns, as the official script does, without `none`.

    Returns:
        The scores, or None where no turn has gold.

    Raises:
        InputError: the two lists differ in length.
    """
    if len(found) != len(gold):
        raise InputError(f"{len(found)} assigned turns against {len(gold)} gold entries: they must run in parallel")
    pairs = [(tag, labels[0]) for tag, labels in zip(found, gold, strict=True) if labels]
    if not pairs:
        return None
    tags, references = [p[0] for p in pairs], [p[1] for p in pairs]
    table = overlap(tags, references)
    rows, columns = linear_sum_assignment(table, maximize=True)
    precision = float(table.max(axis=1).sum() / len(pairs))
    recall = float(table.max(axis=0, initial=0).sum() / len(pairs))
    return InductionScores(
        accuracy=float(table[rows, columns].sum() / len(pairs)),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if precision else 0.0,
        nmi=float(normalized_mutual_info_score(references, tags)),
        ari=float(adjusted_rand_score(references, tags)),
        tags_found=table.shape[0],
        tags_gold=table.shape[1],
        turns=len(pairs),
    )
