"""From counts and measured rates to tokens, hours and money."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.llm.profiles import ServingProfile
from jobs.planning.rates import Rates
from jobs.settings import CostSettings


@dataclass(frozen=True, slots=True)
class Work:
    """What must be asked: `asked` conversations still have an open question, of `conversations` and gold.

    `windows`: the prompts they take, a conversation longer than the model's context has several. `text_tokens`: what
    these hold at least, estimated from their text.
    """

    conversations: int
    gold: int
    asked: int
    questions: int
    windows: int
    text_tokens: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a night would take; None: cannot be said. Tokens are counted as the model's, seconds are wall clock.

    `gpu_hours` counts the GPUs of all servers, 0 for a profile without GPU; `token_money` is what a provider charges by
    the token.
    """

    requests: int
    prompt_tokens: int
    prompt_tokens_estimated: bool
    cached_tokens: int | None
    computed_tokens: int | None
    output_tokens: int | None
    seconds: float | None
    gpu_hours: float | None
    gpu_money: float | None
    token_money: float | None


def forecast(work: Work, rates: Rates | None, profile: ServingProfile, cost: CostSettings) -> Forecast:
    """Counts times measured rates; without rates only what the text itself tells."""
    if work.asked == 0:
        money = 0.0 if cost.gpu_hour is not None else None
        return Forecast(0, 0, False, 0, 0, 0, 0.0, 0.0, money, 0.0 if profile.prices else None)
    if rates is None:
        gpu_hours = 0.0 if profile.all_gpus == 0 else None
        return Forecast(work.windows, work.text_tokens, True, None, None, None, None, gpu_hours, None, None)
    requests = round(work.windows * rates.requests_per_window)
    prompt = round(requests * rates.prompt_tokens_per_request)
    cached = round(prompt * rates.cached_share)
    output = round(requests * rates.output_tokens_per_request)
    seconds = requests * rates.seconds_per_request
    gpu_hours = None if profile.all_gpus is None else seconds / 3600 * profile.all_gpus
    prices = profile.prices
    by_token = None
    if prices is not None:
        parts = ((prompt - cached) * prices.input, cached * prices.cached_input, output * prices.output)
        by_token = sum(parts) / 1e6
    return Forecast(
        requests,
        prompt,
        False,
        cached,
        prompt - cached,
        output,
        seconds,
        gpu_hours,
        None if cost.gpu_hour is None or gpu_hours is None else gpu_hours * cost.gpu_hour,
        by_token,
    )
