"""Sentence embeddings from a real vLLM server on the CPU: the demo's model, run as a pooling model."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs.conversation import Conversation, Turn
from jobs.induction.induce import induce
from jobs.llm.profiles import load_profile
from jobs.llm.weights import LLM_VENV, ensure_weights
from jobs.settings import PROJECT, Settings
from jobs.student.embed import Embedder
from jobs.student.endpoint import EmbeddingProfile, EndpointEngine

pytestmark = [
    pytest.mark.llm,
    pytest.mark.skipif(not (LLM_VENV / "bin" / "vllm").exists(), reason=".venv-llm is not set up: run `make setup`"),
]

MODEL = "smollm2-pooled"
LENGTH = 256


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingProfile]:
    serving = load_profile(Settings())
    weights = ensure_weights(Settings(var=Path("var")), serving, print)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(LLM_VENV / "bin" / "vllm"), "serve", weights, "--runner", "pooling", "--served-model-name", MODEL]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(LENGTH), "--enforce-eager"]
    log = tmp_path_factory.mktemp("pooling") / "server.log"
    profile = EmbeddingProfile(
        name=MODEL,
        description="the demo's model",
        model=MODEL,
        base_url=f"http://127.0.0.1:{port}/v1",
        start=" ".join(command),
        dimensions=576,
        extra_body={"truncate_prompt_tokens": -1},
    )
    environment = os.environ | {name: str(value) for name, value in serving.env.items()}
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=out)
    try:
        until = time.monotonic() + serving.start_timeout_seconds
        while True:
            assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield profile
    finally:
        server.terminate()
        server.wait(60)


def test_vectors_are_unit_belong_to_their_text_and_long_texts_are_cut(served: EmbeddingProfile) -> None:
    engine = EndpointEngine(served)
    texts = ["where is my card", "余额多少", "word " * 3 * LENGTH, "word " * 2 * LENGTH]
    together = engine.compute(texts)
    assert together.shape == (4, 576) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.vstack([engine.compute([text]) for text in texts])
    assert (np.einsum("nd,nd->n", together, alone) > 0.99).all(), (
        "a vector does not depend on its neighbours in a batch"
    )
    apart = together @ together.T
    assert apart[0, 1] < 0.99 and apart[2, 3] > 0.99, "both long texts are cut to the same words"


def test_induction_sees_the_servers_vectors_and_asks_for_each_text_once(
    served: EmbeddingProfile, tmp_path: Path
) -> None:
    embedder = Embedder(tmp_path / "embeddings.sqlite", engine=EndpointEngine(served))
    wishes = ["please send me a new card, number {}", "what is the rate for {} euros", "close the account ending {}"]
    chats = [
        Conversation(f"{wish}-{i}", (Turn("customer", text.format(i)),))
        for wish, text in enumerate(wishes)
        for i in range(12)
    ]
    found = induce(chats, seed=17, embedder=embedder)
    assert len(found.assignments) == 36
    by_wish = [{a.tag for a in found.assignments if a.conversation_id.startswith(f"{wish}-")} for wish in range(3)]
    assert sum(len(tags) for tags in by_wish) == len(set().union(*by_wish)) == len(found.taxonomy.tag_ids)
    served_down = served.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    again = induce(
        chats, seed=17, embedder=Embedder(tmp_path / "embeddings.sqlite", engine=EndpointEngine(served_down))
    )
    assert again.assignments == found.assignments, "all vectors came from the cache"
