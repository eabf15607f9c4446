"""What is known about one night, small enough to pass around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.cascade import TagTrust
from jobs.cost_curve import CostPoint
from jobs.guarantee import Promise

MICRO = "micro"
MACRO = "macro"
OVERALL = (MICRO, MACRO)


@dataclass(frozen=True, slots=True)
class Score:
    """One row of table `scores`; bounds and counts are None where they do not exist."""

    ds: str
    labeller: str
    split: str
    tag_id: str
    support: int
    tp: int | None
    fp: int | None
    fn: int | None
    precision: float
    precision_low: float | None
    precision_high: float | None
    recall: float
    recall_low: float | None
    recall_high: float | None
    f1: float
    verdict: str | None

    @property
    def given(self) -> int | None:
        """How often the tag was given, rightly or not."""
        return None if self.tp is None or self.fp is None else self.tp + self.fp

    @property
    def errors(self) -> int | None:
        """Tags given and wrong plus tags missed."""
        return None if self.fp is None or self.fn is None else self.fp + self.fn


@dataclass(frozen=True, slots=True)
class Flow:
    """Conversations of a night, from the source to an answer.

    `carried` ones are older and were picked up again; of the `llm_labelled` ones the student was unsure and the LLM
    was heard. Of the labelled ones, `tagged` have a tag, to `no_tag` none applies, and `undecided` could not be told.
    `dead_letters`, by reason: requests to the LLM that came to no usable answer.
    """

    conversations: int
    channels: Mapping[str, int]
    quarantine: Mapping[str, int]
    dead_letters: Mapping[str, int]
    carried: int
    labelled: int
    llm_labelled: int
    pending: int
    dead: int
    tagged: int
    no_tag: int
    undecided: int
    reasons: Mapping[str, int]

    @property
    def quarantined(self) -> int:
        """Records that could not be used."""
        return sum(self.quarantine.values())

    @property
    def read(self) -> int:
        """Records that came in: kept and quarantined."""
        return self.conversations + self.quarantined

    @property
    def student_labelled(self) -> int:
        """Conversations that the student labelled alone."""
        return self.labelled - self.llm_labelled


@dataclass(frozen=True, slots=True)
class TagUse:
    """How often a tag was given this night, by whom, and the mean confidence."""

    student: int = 0
    llm: int = 0
    confidence: float = 0.0

    @property
    def total(self) -> int:
        """Conversations with the tag."""
        return self.student + self.llm


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the labels: one model name or prompt hash normally, several after a change within the night."""

    student_models: tuple[str, ...]
    llm_models: tuple[str, ...]
    prompt_hashes: tuple[str, ...]
    taxonomy_versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Night:
    """One night: the flow, tags given, scores, micro scores of all nights, who may decide what, what is promised,
    what asking the LLM costs and wins, the gold's size."""

    ds: str
    flow: Flow
    uses: Mapping[str, TagUse]
    provenance: Provenance
    scores: tuple[Score, ...]
    trend: tuple[Score, ...]
    trust: Mapping[str, TagTrust]
    promises: Mapping[str, Promise]
    costs: tuple[CostPoint, ...]
    gold: Mapping[str, int]

    def score(self, labeller: str, split: str, tag_id: str) -> Score | None:
        """The score of one labeller on one split, if it was measured."""
        for score in self.scores:
            if (score.labeller, score.split, score.tag_id) == (labeller, split, tag_id):
                return score
        return None

    def tag_scores(self, labeller: str, split: str) -> dict[str, Score]:
        """Scores of single tags, overall rows left out."""
        return {
            score.tag_id: score
            for score in self.scores
            if (score.labeller, score.split) == (labeller, split) and score.tag_id not in OVERALL
        }

    @property
    def tags_given(self) -> int:
        """Tags given this night, over all conversations."""
        return sum(use.total for use in self.uses.values())

    @property
    def tags_by(self) -> dict[str, int]:
        """Tags given by each labeller."""
        return {
            "student": sum(use.student for use in self.uses.values()),
            "llm": sum(use.llm for use in self.uses.values()),
        }
