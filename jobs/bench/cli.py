"""The command line of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.pretty import Pretty

from jobs.conversation import Conversation, read_conversations
from jobs.errors import InputError
from jobs.privacy.redact import redact_conversation
from jobs.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Benchmarks; `client` and `naive` need a vLLM server (`serve up`).")

Chats = Annotated[list[Path], typer.Option("--input", help="Conversations (JSON Lines); may be given several times.")]
Limit = Annotated[int, typer.Option(help="Use the first so many conversations of each file.", min=1)]


def _chats(files: list[Path], limit: int) -> list[Conversation]:
    return [redact_conversation(chat) for file in files for chat in read_conversations(file)[:limit]]


@app.command()
def client(
    files: Chats,
    tokenizer: Annotated[str, typer.Option(help="Folder or hub name of the served model's tokenizer.")],
    limit: Limit = 64,
    rounds: Annotated[int, typer.Option(help="How often both are measured.", min=1)] = 2,
) -> None:
    """The client's tokens a second, divided by what `vllm bench serve` reaches on the same requests."""
    from jobs.bench.client import bench_client

    result, path = bench_client(load_settings(), _chats(files, limit), tokenizer, rounds)
    Console().print(Pretty(result), f"written to {path}")


@app.command()
def chats(
    out: Annotated[Path, typer.Option(help="Folder for the file.")],
    count: Annotated[int, typer.Option(help="How many.", min=10)] = 4_000,
) -> None:
    """Write generated chats for `client`: the same for the same count. Good for speed, not for quality."""
    from jobs.bench.night import NIGHT, SEED
    from jobs.bench.raw_chats import write_chats
    from jobs.evaluation.folder import made

    Console().print(f"{count} chats in {write_chats(made(out), count, NIGHT, SEED)}", soft_wrap=True)


Train = Annotated[Path, typer.Option(help="Labelled conversations to learn from (JSON Lines).")]
Test = Annotated[Path, typer.Option(help="Labelled conversations to measure on.")]


@app.command()
def naive(
    train: Train,
    test: Test,
    taxonomy: Annotated[Path | None, typer.Option(help="Their taxonomy; without it, the labels seen in TRAIN.")] = None,
) -> None:
    """Prompt tokens computed, seconds and F1, against one conversation-first prompt for every conversation."""
    from jobs.bench.naive import bench_naive
    from jobs.evaluation.evaluate import job_of
    from jobs.evaluation.progress import Bars

    with Bars() as bars:
        job = job_of(train, test, taxonomy, load_settings(), bars)
        result, path = bench_naive(job, read_conversations(test))
    Console().print(Pretty(result), f"written to {path}")


@app.command()
def student(train: Train, test: Test) -> None:
    """Conversations a second on one core, with and without embeddings."""
    from jobs.bench.student import bench_student

    learn, held = ([redact_conversation(chat) for chat in read_conversations(file)] for file in (train, test))
    result, path = bench_student(load_settings(), learn, held)
    Console().print(Pretty(result), f"written to {path}")


@app.command()
def band(
    chats: Annotated[Path, typer.Option("--input", help="Labelled conversations (JSON Lines).")],
    wrong: Annotated[
        list[float],
        typer.Option(help="Share of tags that the simulated LLM gets wrong; may be given several times.", min=0, max=1),
    ],
    calibration: Annotated[
        list[int], typer.Option(help="Conversations of calibration gold; may be given several times.", min=10)
    ],
    draws: Annotated[int, typer.Option(help="How often calibration gold is drawn.", min=1)] = 200,
) -> None:
    """Does `label.band: proven` keep its word, and what does it ask? A real student, a simulated LLM."""
    from jobs.bench.band import band_table, bench_band

    found = [redact_conversation(chat) for chat in read_conversations(chats)]
    rows, path = bench_band(load_settings(), found, wrong, calibration, draws)
    Console().print(band_table(rows), f"written to {path}")


@app.command()
def night(
    conversations: Annotated[int, typer.Option(help="How many are generated.", min=10)] = 10_000,
    embeddings: Annotated[bool, typer.Option(help="A student with sentence embeddings.")] = False,
    replay: Annotated[bool, typer.Option(help="Run the same night a second time.")] = True,
) -> None:
    """A generated night through ingest, student, score and profile: conversations a second and memory by stage."""
    from jobs.bench.measure import save_figures
    from jobs.bench.night import bench_night

    console, settings = Console(), load_settings()
    result = bench_night(settings, conversations, embeddings=embeddings, replay=replay, say=console.print)
    kind = "" if embeddings else "-lexical"
    console.print(f"written to {save_figures(settings, f'night-{conversations}{kind}', result)}")


@app.command()
def induction(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the public sets of config/induction-sets.yaml.")
    ] = None,
    chosen: Annotated[str, typer.Option("--sets", help="Some of them, with commas; without it, all.")] = "",
    own: Annotated[list[Path] | None, typer.Option("--input", help="Instead: labelled files with turn_labels.")] = None,
    judge: Annotated[
        list[float] | None,
        typer.Option(
            help="Also with a simulated judge, wrong about this share of pairs; may be given several times.",
            min=0,
            max=1,
        ),
    ] = None,
    learn: Annotated[
        bool, typer.Option("--learn-encoder", help="Also with encoders, each learned from the other half of the files.")
    ] = False,
    llm: Annotated[bool, typer.Option("--llm", help="Also with the LLM of the settings, which must be up.")] = False,
) -> None:
    """Induction on the development sets, beside k-means and a consensus of clusterings (half an hour without LLM)."""
    from functools import partial

    from jobs.bench.induction import bench_induction, drawn_sets, induction_page
    from jobs.bench.induction_sets import load_sets
    from jobs.bench.learned_encoder import encoders_of_halves
    from jobs.bench.measure import save_figures
    from jobs.evaluation.progress import Bars

    console, settings = Console(), load_settings()
    files = own or []
    if learn and (data is None or own):
        raise InputError("bench induction: --learn-encoder is for the public sets: say --data FOLDER and no --input")
    if data is not None:
        names = [name for name in chosen.split(",") if name]
        files = [*files, *drawn_sets(data, names, settings.var_dir / "bench" / "induction" / "sets")]
    if not files:
        raise InputError("bench induction: say --data FOLDER (public sets) or --input FILE (your own)")
    encoders: dict[str, Path] = {}
    if learn and data is not None:
        with Bars() as bars:
            encoders = encoders_of_halves(load_sets(), data, settings, progress=partial(bars, "learn encoders (steps)"))
    say = partial(Console(stderr=True).print, soft_wrap=True)
    result = bench_induction(settings, files, judge or [], say, encoders, llm=llm)
    path = save_figures(settings, "induction", result)
    path.with_suffix(".md").write_text(induction_page(result), "utf-8")
    console.print(induction_page(result), markup=False, soft_wrap=True)
    console.print(f"written to {path} and {path.with_suffix('.md').name}")
