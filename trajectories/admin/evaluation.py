"""The page that evaluates another policy on recorded decisions: one model, or rules before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from pydantic import ValidationError

from trajectories.admin import alerts, charts, figures, scope
from trajectories.admin.cards import Card, Cell
from trajectories.admin.frame import framed
from trajectories.admin.overview import curl, no_tenant, periods, selects
from trajectories.admin.scope import RECORDED, Period, Scope
from trajectories.domain.clock import now_us
from trajectories.domain.query import parse_query
from trajectories.domain.schema import invalid_input
from trajectories.domain.text import counted, visible
from trajectories.exceptions import InvalidInput, TrajectoriesError
from trajectories.learning.estimators import Estimate
from trajectories.learning.evaluate import Evaluation, evaluate
from trajectories.learning.policies import FEATURES, RulePolicy
from trajectories.storage.store import get_store

TEMPLATE: Final = "admin/trajectories/evaluation.html"
MAX_RUNS: Final = 2_000
"""How many of the newest runs a page reads at most; the command and the API read more."""
_EMPTY_RULES: Final = 2
_MAX_OPTIONS: Final = 100
_METHODS: Final = {
    "ips": "Inverse propensity (IPS)",
    "snips": "Self-normalized (SNIPS)",
    "dr": "Doubly robust (DR)",
}


class Rule(NamedTuple):
    """A rule of the form: where ``feature`` has ``value``, the policy uses the model ``use``."""

    feature: str
    value: str
    use: str


def evaluation_view(model_admin: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """Return the page. The policy, the period and the filters are in the URL.

    Raises:
        PermissionDenied: 403; the user may not view trajectories.
    """
    context = framed(model_admin, request, "Evaluate a policy")
    listed = scope.tenants(request)
    tenant = scope.tenant(request, listed)
    context |= {
        "tenants": listed if tenant in listed else [*filter(None, [tenant]), *listed],
        "tenant": tenant,
        "curl": curl(request),
        "max_runs": MAX_RUNS,
    }
    if tenant is None:
        return TemplateResponse(request, TEMPLATE, context | {"problem": no_tenant(request)})
    try:
        context |= _page(request, model_admin.admin_site.name, tenant)
    except TrajectoriesError as error:
        context["problem"] = error.message
    return TemplateResponse(request, TEMPLATE, context)


def _page(request: HttpRequest, site_name: str, tenant: str) -> dict[str, Any]:
    given = request.GET
    asked = Scope(tenant, scope.period(given.get("period", "all")), RECORDED, scope.filters(given))
    whole = Scope(tenant, Period(None, None, ""), RECORDED, {}).stats()
    rules, otherwise, phase = rules_of(given), given.get("otherwise", "").strip(" "), given.get("phase", "")
    groups = {name: [group[name] for group in whole[f"by_{name}"] if group[name]] for name in ("model", "phase")}
    context: dict[str, Any] = {
        "scope": asked,
        "periods": periods(asked.period),
        "selects": selects(asked, whole),
        "phases": [(name, figures.label(name), name == phase) for name in _with(groups["phase"], phase)],
        "features": FEATURES,
        "rules": [*rules, *[Rule("", "", "")] * _EMPTY_RULES],
        "otherwise": otherwise,
        "models": groups["model"][:_MAX_OPTIONS],
        "has_runs": bool(whole["count"]),
        "alerts": alerts.lines(tenant, site_name, asked.filters),
    }
    if not otherwise:
        needs = "Name the model that the policy uses otherwise." if rules else None
        return context | {"problem": needs}
    try:
        found = _evaluate(asked, policy_of(rules, otherwise), phase)
    except TrajectoriesError as error:
        return context | {"problem": problem_of(error)}
    return context | {
        "found": found,
        "sentence": sentence(found),
        "cards": [estimates_card(found), evidence_card(found)],
        "all_runs": scope.runs_address(site_name, tenant, **asked.parameters, **({"phase": phase} if phase else {})),
    }


def _with(values: list[str], chosen: str) -> list[str]:
    listed = values[:_MAX_OPTIONS]
    return listed if not chosen or chosen in listed else [*listed, chosen]


def rules_of(given: QueryDict) -> list[Rule]:
    """Return the rules that the URL gives, without the empty rows of the form."""
    columns = (given.getlist(name) for name in Rule._fields)
    return [rule for rule in map(Rule._make, zip(*columns, strict=False)) if rule.use.strip(" ") or rule.value]


def policy_of(rules: list[Rule], otherwise: str) -> RulePolicy:
    """Return the policy of the form.

    Raises:
        InvalidInput: a rule has no model or no feature, or a name is too long.
    """
    table = [{"when": {rule.feature: rule.value or None}, "use": rule.use.strip(" ")} for rule in rules]
    try:
        return RulePolicy.model_validate({"rules": table, "default": otherwise} if table else {"always": otherwise})
    except ValidationError as error:
        raise invalid_input(error) from None


def problem_of(error: TrajectoriesError) -> str:
    """Return the message with every problem of the policy."""
    details = error.details if isinstance(error, InvalidInput) else ()
    return visible("; ".join(f"{one.path}: {one.message}" for one in details) or error.message)


def _evaluate(asked: Scope, policy: RulePolicy, phase: str) -> Evaluation:
    query = parse_query(asked.parameters, now_us())
    return evaluate(get_store(), asked.tenant, query, policy, phase=phase or None, max_runs=MAX_RUNS)


def sentence(found: Evaluation) -> str:
    """Say in plain words what the policy is worth, or why that cannot be known."""
    if found.refusal and found.exact is None:
        return found.refusal
    done = "" if found.logged is None else f" What was done earned {_share(found.logged)}."
    if found.exact is not None:
        cost = "" if found.exact.cost_usd is None else f" at {figures.money(found.exact.cost_usd)} each"
        items = counted(found.exact.items, "item")
        return f"The policy succeeds in exactly {_share(found.exact.value)} of {items}{cost}.{done}"
    best = found.estimates[-1]
    low, high = best.normal
    if found.logged is None or low <= found.logged <= high:
        verdict = "not distinguishable from what was done"
    else:
        verdict = f"{'more' if low > found.logged else 'less'} than what was done"
    return (
        f"The policy would have earned {_share(best.value)} of the reward, with 95 % confidence {_share(low)} to"
        f" {_share(high)}: {verdict}.{done}"
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def estimates_card(found: Evaluation) -> Card:
    """Return the value of what was done beside each estimate of the policy's value."""
    rows = []
    if found.logged is not None:
        rows.append(_row("What was done", found.logged))
    if found.exact is not None:
        rows.append(_row("The policy, exactly", found.exact.value))
    rows += [_estimate(one) for one in found.estimates]
    head = ["", "Mean reward", "95 %, normal", "95 %, bootstrap"]
    note = "The mean credited success of decisions: 100 % where each phase succeeds."
    return Card(
        "Value of the policy",
        head,
        rows if found.estimates or found.exact else (),
        note,
        empty="No estimate.",
        is_wide=True,
    )


def _row(name: str, value: float) -> list[Cell]:
    return [Cell(name, is_number=False), Cell(_share(value)), Cell(figures.UNKNOWN), Cell(figures.UNKNOWN)]


def _estimate(one: Estimate) -> list[Cell]:
    intervals = [
        Cell(f"{_share(low)} to {_share(high)}", drawn=charts.interval(*map(_clamped, (one.value, low, high))))
        for low, high in (one.normal, one.bootstrap)
    ]
    return [Cell(_METHODS[one.method], is_number=False), Cell(_share(one.value)), *intervals]


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


def evidence_card(found: Evaluation) -> Card:
    """Return how far the recorded decisions speak of the policy."""
    rows = [
        [Cell(name, is_number=False), Cell(value), Cell(note, is_number=False)] for name, value, note in _facts(found)
    ]
    return Card("Evidence", ["", "Value", "Meaning"], rows, is_wide=True)


def _facts(found: Evaluation) -> Iterator[tuple[str, str, str]]:
    yield "Decisions", f"{found.decisions:,}", "with a propensity and a reward"
    if found.covered is not None:
        yield "Overlap", _share(found.covered), "of the policy's choices could have been made by the recorded policy"
    if found.overlap is not None:
        effective, mean, largest = found.overlap
        yield "Effective sample size", f"{effective:,.0f}", "decisions of the policy that the recorded ones are worth"
        yield "Mean weight", f"{mean:.3f}", "1 where propensities are right and overlap is full"
        yield "Largest weight", f"{largest:.1f}", "of one decision; a large one decides the estimate alone"
    for reason, count in found.left_out.items():
        yield f"Left out: {reason}", f"{count:,}", "not counted"
