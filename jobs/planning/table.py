"""A plan as people read it."""

from __future__ import annotations

from rich.table import Table

from jobs.plan import Plan

_UNKNOWN = "not measured yet"
_UNSAID = "not known: the serving profile does not say `gpus`"


def _count(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min {rest:02d} s"


def _money(plan: Plan) -> str:
    made = plan.forecast
    parts = []
    if made.gpu_money is not None:
        parts.append(f"{made.gpu_money:,.2f} {plan.gpu_currency} for GPUs")
    if made.token_money is not None:
        parts.append(f"{made.token_money:,.2f} {plan.token_currency} for tokens")
    if parts:
        return ", ".join(parts)
    if made.seconds is None:
        return _UNKNOWN
    if made.gpu_hours is None:
        return f"{_UNSAID}, or prices"
    return "no price set (cost.gpu_hour, or prices in the serving profile)"


def plan_table(plan: Plan) -> Table:
    """Counts, tokens, time and money of a night, and where the rates come from."""
    work, made = plan.work, plan.forecast
    table = Table(
        title=f"What labelling {plan.ds} would take ({plan.model}, profile {plan.profile})", show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    table.add_row("conversations (waiting ones included)", _count(work.conversations))
    table.add_row("gold conversations", _count(work.gold))
    table.add_row("conversations to ask the LLM about", _count(work.asked))
    table.add_row("prompts for them (long ones: one a window)", _count(work.windows))
    table.add_row("open questions (conversation and tag)", _count(work.questions))
    table.add_row("requests", _count(made.requests) + ("" if plan.rates or not work.asked else " or more"))
    estimated = " (estimated from the text)" if made.prompt_tokens_estimated else ""
    table.add_row("prompt tokens", _count(made.prompt_tokens) + estimated)
    table.add_row("  from the prefix cache", _count(made.cached_tokens))
    table.add_row("  to compute", _count(made.computed_tokens))
    table.add_row("output tokens", _count(made.output_tokens))
    table.add_row("time of the LLM", _duration(made.seconds))
    unknown = _UNKNOWN if made.seconds is None else _UNSAID
    table.add_row("GPU-hours", unknown if made.gpu_hours is None else f"{made.gpu_hours:,.2f}")
    table.add_row("money", _money(plan))
    table.caption = "\n".join(plan.notes)
    return table
