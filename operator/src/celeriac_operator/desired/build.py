"""(pure) Which objects does a pool need, and in which order are they applied?"""

from __future__ import annotations

from celeriac_operator.desired import deployment, disruption_budget, sentry_secret
from celeriac_operator.desired.pod_template import Choices, TemplateError
from celeriac_operator.manifest import Draft
from celeriac_operator.resource import CeleryWorkerPool

__all__ = ["Choices", "Draft", "TemplateError", "build"]


def build(pool: CeleryWorkerPool, choices: Choices) -> tuple[Draft, ...]:
    """Build every object that the pool owns, in the order in which they are applied.

    Raises:
        TemplateError: the pool's template patch cannot be merged.
    """
    manifests = []
    dsn = sentry_secret.dsn_of(pool, choices.default_dsn)
    if dsn:
        # Before the Deployment, so that its pods find the DSN at their first start.
        manifests.append(sentry_secret.build(pool, dsn))
    manifests.append(deployment.build(pool, choices))
    # After the Deployment: workers without a disruption budget are better than no workers.
    budget = disruption_budget.build(pool)
    return (*manifests, budget) if budget else tuple(manifests)
