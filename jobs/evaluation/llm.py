"""The LLM as a labeller of `evaluate`: alone, or where the student is unsure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from jobs.cascade import Bands, TagTrust, combine, give_up, llm_trust, trial_blocks, whole_conversations
from jobs.conversation import Conversation
from jobs.cost_curve import CostPoint, Tried, choose_band, cost_curve
from jobs.errors import InputError, ServerError
from jobs.evaluation.draw import draw_together
from jobs.evaluation.job import Job
from jobs.guarantee import Evidence, Promise, Target, promises
from jobs.llm.client import LlmClient
from jobs.llm.exchange import FailureKind
from jobs.llm.labelling import LabelOutcome, LabelPrompt, label_conversations
from jobs.llm.profiles import load_profile
from jobs.llm.server import server_status
from jobs.settings import Settings
from jobs.student.model import Student
from jobs.student.training import gold_matrix
from jobs.taxonomy import Example, Tag, Taxonomy

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HELD_OUT_SHARE = 0.25
MOST_HELD_OUT = 200
EXAMPLES_A_TAG = 3
EXAMPLE_CHARS = 120
UNKNOWN_CONFIDENCE = 0.5


@dataclass(frozen=True, slots=True)
class LlmAnswers:
    """n conversations x t tags; rows that are not `answered` hold zeros, and so do those that cannot tell."""

    probabilities: Array
    decisions: Bools
    answered: Bools
    told: Bools
    requests: int


@dataclass(frozen=True, slots=True)
class LearnedCascade:
    """What TRAIN teaches a cascade, for t tags: `llm_decides` (t,), `whole` (t,), which of these it decides in whole
    conversations; `requests` were spent on learning it.

    `costs`: what other bands of doubt would ask and win, on held-out TRAIN.
    """

    student: Student
    bands: Bands
    llm_decides: Bools
    whole: Bools
    trust: tuple[TagTrust, ...]
    promises: tuple[Promise, ...]
    requests: int
    costs: tuple[CostPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class CascadeResult:
    """What the cascade decided, whom it trusts with each tag, what it promises, and what other bands would cost.

    Of `asked` conversations the LLM gave no usable answer about `unanswered`; the student decided these.
    """

    probabilities: Array
    decisions: Bools
    requests: int
    asked: int
    unanswered: int
    trust: tuple[TagTrust, ...]
    promises: tuple[Promise, ...]
    costs: tuple[CostPoint, ...]


def taxonomy_from_labels(train: Sequence[Conversation], tags: Sequence[str]) -> Taxonomy:
    """A makeshift taxonomy: each label with a few short training texts that carry it, fewest other labels first."""
    found: list[Tag] = []
    for tag in tags:
        carriers = [c for c in train if tag in (c.labels or ()) and c.customer_text.strip()]
        carriers.sort(key=lambda c: (len(c.labels or ()), len(c.customer_text)))
        texts = [c.customer_text.replace("\n", " ")[:EXAMPLE_CHARS] for c in carriers[:EXAMPLES_A_TAG]]
        name = tag.replace("_", " ")
        definition = f"{name}: " + " / ".join(texts) if texts else name
        found.append(Tag(tag, name, definition, examples=tuple(Example(text) for text in texts)))
    language = next((c.lang for c in train if c.lang), "en")
    return Taxonomy("labels-seen", 1, tuple(found), language=language)


def _bare(conversations: Sequence[Conversation]) -> list[Conversation]:
    return [replace(c, labels=None, turn_labels=None) for c in conversations]


def llm_alone(job: Job) -> LlmAnswers:
    """The LLM labels all of TEST; TRAIN only lends examples where there is no taxonomy.

    Raises:
        ServerError: see `_ask`.
    """
    return _ask(job, job.test, "LLM")


def _ask(job: Job, conversations: Sequence[Conversation], what: str, *, without: bool = False) -> LlmAnswers:
    """Label conversations with the LLM server of the settings' profile.

    `without`: go on without a single usable answer, as long as the server gives answers.

    Raises:
        ServerError: the server is not up, or not a single conversation got a usable answer.
    """
    tags, settings = job.tags, job.settings
    shape = (len(conversations), len(tags))
    if not conversations:
        nobody = np.zeros(0, np.bool_)
        return LlmAnswers(np.zeros(shape), np.zeros(shape, np.bool_), nobody, nobody, 0)
    status = server_status(settings)
    if status.state != "up":
        raise ServerError(f"no LLM server at {status.base_url} ({status.detail}): run `python -m jobs serve up` first")
    profile = job.profile or load_profile(settings)
    taxonomy = job.taxonomy or taxonomy_from_labels(job.train, tags)
    prompt = LabelPrompt(taxonomy, profile, tags=tags, overlap=settings.label.window_overlap)

    async def ask_all() -> tuple[list[LabelOutcome], int]:
        async with LlmClient(profile, settings.llm) as client:
            found = await label_conversations(client, prompt, _bare(conversations), partial(job.progress, what))
            return found, client.usage.requests

    outcomes, requests = asyncio.run(ask_all())
    place = {tag: i for i, tag in enumerate(tags)}
    probabilities, decisions = np.zeros(shape), np.zeros(shape, np.bool_)
    answered = np.array([outcome.answer is not None for outcome in outcomes], np.bool_)
    told = np.array([outcome.answer is not None and not outcome.answer.cannot_tell for outcome in outcomes], np.bool_)
    for row, outcome in enumerate(outcomes):
        for answer in outcome.answer.tags if outcome.answer else ():
            decisions[row, place[answer.tag]] = True
            probabilities[row, place[answer.tag]] = outcome.confidence.get(answer.tag, UNKNOWN_CONFIDENCE)
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    replied = any(failure.kind in (FailureKind.BAD_ANSWER, FailureKind.REJECTED) for failure in failures)
    if not answered.any() and not (without and replied):
        why = f"{failures[0].kind}: {failures[0].detail}" if failures else "no reason"
        raise ServerError(f"the LLM gave no usable answer at all ({why})")
    return LlmAnswers(probabilities, decisions, answered, told, requests)


def hold_out(train: Sequence[Conversation], seed: int) -> tuple[list[Conversation], list[Conversation]]:
    """(rest, held out) of the labelled conversations: those whose `split` is `calibration` if there are any, else a
    seeded quarter, 200 at most. The rest holds no text that is held out; of copies one is held out.

    Raises:
        InputError: there are too few different ones.
    """
    labelled = [c for c in train if c.labels is not None]
    contents = [c.copy_key for c in labelled]
    held = {i for i, c in enumerate(labelled) if c.split == "calibration"}
    if not held or {contents[i] for i in held} == set(contents):
        size = min(MOST_HELD_OUT, round(len(labelled) * HELD_OUT_SHARE))
        held = draw_together(contents, size, seed)
    if not held:
        raise InputError("training data: too few labelled conversations to hold some out for comparing the labellers")
    seen = {contents[i]: labelled[i] for i in sorted(held, reverse=True)}
    return [c for c in labelled if c.copy_key not in seen], list(seen.values())[::-1]


def _student(job: Job, train: Sequence[Conversation]) -> Student:
    return Student.fit(
        train,
        job.tags,
        taxonomy=job.taxonomy,
        settings=job.settings.student,
        embedder=job.embedder,
        progress=job.progress,
    )


def _promises(job: Job, student: Student, held: Sequence[Conversation], llm: LlmAnswers) -> list[Promise]:
    """What TRAIN proves: of the student on all of it, each conversation left out; of both where the LLM answered.

    Of copies one counts, the one that the LLM was asked about where there is one: they err together.
    """
    labelled = [c for c in job.train if c.labels is not None]
    counts = {c.content_hash: c for c in (*reversed(labelled), *held)}
    labelled = [c for c in labelled if counts[c.content_hash] is c]
    found = student.predict(labelled, left_out=True)
    place = {id(c): i for i, c in enumerate(labelled)}
    rows = [place[id(c)] for c in held]
    said, answered = np.zeros(found.decisions.shape, np.bool_), np.zeros(len(labelled), np.bool_)
    said[rows], answered[rows] = llm.decisions, llm.answered
    evidence = Evidence(found.probabilities, gold_matrix(labelled, job.tags), said, answered)
    return promises(job.tags, evidence, _target(job.settings))


def _target(settings: Settings) -> Target:
    gate = settings.gate
    return Target(gate.target_precision, gate.target_recall, gate.confidence)


def _trial(
    job: Job, rest: Sequence[Conversation], held: Sequence[Conversation], student: Bools
) -> tuple[LlmAnswers, str | None]:
    """The LLM's answers about held-out conversations, block by block, until it has shown what it is worth.

    Where there is no taxonomy, it is shown texts of the rest alone: others would hold the answers. An LLM that has not
    given a single usable answer in the first block is an error, later ones count for what they are.
    """
    job = replace(job, train=rest)
    gold = gold_matrix(held, job.tags)
    nobody = np.zeros(len(held), np.bool_)
    found = LlmAnswers(np.zeros(gold.shape), np.zeros(gold.shape, np.bool_), nobody, nobody.copy(), 0)
    # Their order in the file may mean something.
    order = np.random.default_rng(job.settings.student.seed).permutation(len(held))
    for block in trial_blocks(len(held)):
        rows = order[block.start : block.stop]
        chats = [held[i] for i in rows.tolist()]
        said = _ask(job, chats, "LLM on held-out training data", without=bool(found.answered.any()))
        found.probabilities[rows], found.decisions[rows] = said.probabilities, said.decisions
        found.answered[rows], found.told[rows] = said.answered, said.told
        found = replace(found, requests=found.requests + said.requests)
        if reason := give_up(gold, student, found.decisions, found.answered):
            return found, reason
    return found, None


def learn_cascade(job: Job) -> LearnedCascade:
    """Learn from TRAIN alone whom to trust with each tag and what can be promised; asks about held-out TRAIN.

    A student that has not seen the held-out conversations is compared with the LLM there; the one that labels later
    learns from all of TRAIN.
    """
    settings = job.settings
    rest, held = hold_out(job.train, settings.student.seed)
    half = _student(job, rest).predict(held)
    llm, given_up = _trial(job, rest, held, half.decisions)
    gold = gold_matrix(held, job.tags)
    trust = llm_trust(job.tags, gold, half.decisions, llm.decisions, llm.answered, given_up=given_up)
    earned = np.array([entry.llm_decides for entry in trust], np.bool_)
    whole = _student(job, job.train)
    promised = _promises(job, whole, held, llm)
    both = zip(trust, promised, strict=True)
    band = (settings.label.unsure_low, settings.label.unsure_high)
    tried = Tried(gold, half.probabilities, half.decisions, llm.decisions, llm.answered, llm.told)
    points = cost_curve(tried, promised, _target(settings), band, decides=earned)
    choice = choose_band(points, band, settings.label.band)
    decides = [entry.tag_id for entry, promise in both if entry.llm_decides or promise.promised == "cascade"]
    whole_tags = choice.whole_tags(promised, decides)
    return LearnedCascade(
        whole,
        Bands.of(promised, *choice.band),
        np.array([tag in decides for tag in job.tags], np.bool_),
        np.array([tag in whole_tags for tag in job.tags], np.bool_),
        tuple(trust),
        tuple(promised),
        llm.requests,
        choice.points,
    )


def label_cascade(job: Job, learned: LearnedCascade) -> CascadeResult:
    """Label TEST: the student where it is sure, the LLM elsewhere for the tags it decides.

    Where TRAIN proves a promise, the tag has the thresholds that were proven.

    Raises:
        ServerError: the LLM is needed and its server is not up, or gives out before it has answered anything.
    """
    test = job.test
    student = learned.student.predict(test, job.progress)
    sure = learned.bands.decided(student.probabilities, student.decisions)
    asked = learned.bands.unsure(student.probabilities) & learned.llm_decides
    rows = np.flatnonzero(asked.any(axis=1))
    answers = _ask(job, [test[i] for i in rows.tolist()], "LLM", without=True)
    shape = student.decisions.shape
    answered, said, confidence = np.zeros(len(test), np.bool_), np.zeros(shape, np.bool_), np.zeros(shape)
    answered[rows], said[rows], confidence[rows] = answers.answered, answers.decisions, answers.probabilities
    told = np.zeros(shape, np.bool_)
    told[rows] = answers.told[:, np.newaxis]
    asked = whole_conversations(asked, told & learned.whole)
    decisions = combine(sure, said, answered, asked, learned.llm_decides)
    probabilities = np.where(asked & answered[:, np.newaxis], confidence, student.probabilities)
    requests = learned.requests + answers.requests
    silent = int((~answers.answered).sum())
    known = learned.trust, learned.promises, learned.costs
    return CascadeResult(probabilities, decisions, requests, len(rows), silent, *known)


def cascade(job: Job) -> CascadeResult:
    """Learn the cascade from TRAIN and label TEST, which plays no part in whom to trust or what to promise."""
    return label_cascade(job, learn_cascade(job))
