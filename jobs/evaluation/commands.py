"""Further commands for people's own chats; `jobs/cli.py` puts them beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from jobs.errors import InputError
from jobs.opening import open_tables
from jobs.settings import load_settings

# Labels and names of files are anybody's: brackets in them are no markup.
console = Console(markup=False)


def evaluate(
    train_file: Annotated[Path, typer.Option("--train", help="Labelled conversations to learn from (JSON Lines).")],
    test_file: Annotated[Path, typer.Option("--test", help="Conversations to tag; labels, if any, only score.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.json and predictions.jsonl.")],
    taxonomy: Annotated[Path | None, typer.Option(help="Taxonomy file; without it tags are the labels seen.")] = None,
    labeller: Annotated[
        str, typer.Option(help="student, llm, cascade; to compare with: baseline, baseline-both (with e5).")
    ] = "student",
) -> None:
    """Learn from TRAIN, tag TEST without looking at its labels, and score."""
    from jobs.evaluation.evaluate import evaluate as run
    from jobs.evaluation.table import costs_table, promises_table, scores_table

    result = run(train_file, test_file, taxonomy=taxonomy, labeller=labeller, out=out, settings=load_settings())
    console.print(scores_table(result))
    if "promises" in result:
        console.print(promises_table(result))
    if result.get("costs"):
        console.print(costs_table(result))


def evaluate_induction(
    input_file: Annotated[Path, typer.Option("--input", help="Conversations (JSON Lines); turn_labels only score.")],
    out: Annotated[Path, typer.Option(help="Folder for taxonomy.yaml, assignments.jsonl and induction.json.")],
    llm: Annotated[bool, typer.Option(help="Let the LLM name and define; without it, keywords.")] = True,
    baseline: Annotated[bool, typer.Option(help="The yardstick instead: e5 embeddings and k-means.")] = False,
    held_out: Annotated[Path | None, typer.Option(help="Conversations to try the tags' definitions on.")] = None,
) -> None:
    """Induce tags from customer turns without gold, then compare with turn_labels where there are any."""
    from jobs.evaluation.evaluate_induction import evaluate_induction as run
    from jobs.evaluation.table import induction_table

    common: dict[str, Any] = {"use_llm": llm, "settings": load_settings(), "held_out": held_out}
    result = run(input_file, out, yardstick="kmeans" if baseline else None, **common)
    console.print(induction_table(result))


def learning_curve(
    input_file: Annotated[Path, typer.Option("--input", help="Labelled conversations (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="Folder for learning_curve.json and learning_curve.svg.")],
    seeds: Annotated[int, typer.Option(help="How many draws of gold and of the held-out part.")] = 3,
) -> None:
    """How good the student gets with 5, 10, 20, 50 gold conversations a tag."""
    from jobs.evaluation.learning_curve import learning_curve as run
    from jobs.evaluation.table import curve_table

    console.print(curve_table(run(input_file, out, seeds=seeds, settings=load_settings())))


def flips(
    before: Annotated[Path | None, typer.Option(help="predictions.jsonl of one run of `evaluate`.")] = None,
    after: Annotated[Path | None, typer.Option(help="The same of another run over the same conversations.")] = None,
    ds: Annotated[
        str | None, typer.Option("--ds", help="Instead: label some of this night's once more.", metavar="DATE")
    ] = None,
    limit: Annotated[int, typer.Option(help="With --ds: at most so many conversations.", min=1)] = 200,
) -> None:
    """How many labels change when the same conversations are labelled twice: two files, or a night labelled again."""
    from jobs.evaluation.flips import flips as run
    from jobs.evaluation.relabel import relabelled_flips
    from jobs.evaluation.table import flips_table

    confidence = load_settings().gate.confidence
    if ds is not None and before is None and after is None:
        with open_tables("flips", ds) as (tables, settings):
            found = relabelled_flips(tables, settings, ds, limit, Console(stderr=True, markup=False).print)
    elif ds is None and before is not None and after is not None:
        found = run(before, after, confidence)
    else:
        raise InputError("flips: give either --before and --after, or --ds")
    console.print(flips_table(found, confidence))


def compare(
    *,
    test: Annotated[Path, typer.Option(help="The labelled conversations that both runs tagged (JSON Lines).")],
    before: Annotated[Path, typer.Option(help="predictions.jsonl of one run of `evaluate`.")],
    after: Annotated[Path, typer.Option(help="The same of another run over the same TEST.")],
) -> None:
    """Whether one labeller is better than another on the same conversations, or it was chance."""
    from jobs.evaluation.compare import compare as run
    from jobs.evaluation.table import comparison_table

    confidence = load_settings().gate.confidence
    console.print(comparison_table(run(test, before, after, confidence), confidence))


def split(
    *,
    input_file: Annotated[Path, typer.Option("--input", help="Labelled conversations (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl and test.jsonl.")],
    train: Annotated[str, typer.Option(help="Patterns of the field `split`, with commas: 'fold[13579]'.")] = "",
    test: Annotated[str, typer.Option(help="The same for TEST: 'fold[02468]'.")] = "",
    share: Annotated[float | None, typer.Option(help="Instead of patterns: the share drawn for TRAIN.")] = None,
    fold: Annotated[str | None, typer.Option(help="Instead of both: 2/5, TEST is the second of five parts.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Draw so many lines of TEST.", min=1)] = None,
    no_tag: Annotated[str, typer.Option(help="Labels that mean 'no tag', with commas.")] = "",
) -> None:
    """One labelled file into TRAIN and TEST, by its field `split` or by a seeded draw."""
    from jobs.evaluation.split import split_file

    learn, hold, nothing = ([part for part in text.split(",") if part] for text in (train, test, no_tag))
    found = split_file(
        input_file, out, train=learn, test=hold, share=share, fold=fold, seed=seed, no_tag=nothing, limit=limit
    )
    console.print(f"{found.train} conversations to learn from, {found.test} to test on: {out}")


def recovery(
    *,
    input_file: Annotated[Path, typer.Option("--input", help="The labelled conversations that were induced from.")],
    induced: Annotated[Path, typer.Option(help="The folder that `evaluate-induction` wrote.")],
    reference: Annotated[Path | None, typer.Option(help="Taxonomy of the gold's tags, for their names.")] = None,
) -> None:
    """Which tags of a reference an induced taxonomy found, missed or invented."""
    from jobs.evaluation.recovery import PAGE
    from jobs.evaluation.recovery import recovery as run

    counts = run(input_file, induced, reference)["counts"]
    console.print(
        f"found {counts['found']} of {counts['reference']} reference tags, {counts['partly']} partly, "
        f"missed {counts['missed']}; invented {counts['invented']} of {counts['induced']} induced tags: "
        f"{induced / PAGE}"
    )


def learn_encoder(
    *,
    inputs: Annotated[list[Path], typer.Option("--input", help="Labelled conversations; may be given several times.")],
    out: Annotated[Path, typer.Option(help="The encoder's file, NAME.onnx.")],
    no_tag: Annotated[str, typer.Option(help="Labels that mean 'no tag', with commas.")] = "",
    steps: Annotated[int, typer.Option(help="Batches to learn from; some two seconds of a core each.", min=1)] = 300,
) -> None:
    """Teach the sentence model by labelled turns which turns are one wish, for induction on short texts."""
    from functools import partial

    from jobs.evaluation.learn_encoder import learn_encoder_from_files
    from jobs.evaluation.progress import Bars

    nothing = [part for part in no_tag.split(",") if part]
    with Bars() as bars:
        say = partial(bars, "learn encoder (steps)")
        found = learn_encoder_from_files(
            inputs, out, settings=load_settings(), no_tag=nothing, steps=steps, progress=say
        )
    console.print(
        f"learned from {found.turns} turns with {found.tags} tags of {found.files} files: {out}\n"
        f"induce with it: DONGCHA_EMBEDDINGS__INDUCTION_PROFILE={out.resolve()}",
        soft_wrap=True,
    )
