"""Tests policies in an application's own tests, without Redis or a worker, with a clock that the test moves.

```python
from celeriac import testing

with testing.policies(app) as calls:
    first, second = notify.delay("ann"), notify.delay("ann")
    assert first.id == second.id
    assert [it.task_id for it in calls.dropped] == [first.id]
    assert [it.result for it in calls.run()] == ["sent to ann"]
    calls.advance(30)
    assert notify.delay("ann").id != first.id
```

Inside the block every call of every task of `app` is decided as in production and queued here, in the process. `run`
runs what is queued as a worker does (with retries, callbacks, `self.request`), `advance` moves the clock and runs what
becomes due, and results are kept in memory, so that `result.get()` works after it. With `redis_url` the decisions are a
real Redis' instead, by real time, in keys that begin with a prefix of their own and are deleted at the end.

Calls run only when the test says so: `result.get()` before `run` raises `NotRunError`.

With pytest the same is a fixture, `celeriac_calls`, of the application that the option `celeriac_app` names in
pytest.ini (as `celery -A` does), or that the fixture `celeriac_app` of your conftest.py returns.

**Limits.** There is one run at a time, so no run waits for another run's lock, and a task runs during a call only if
it makes the call itself. Without Redis a model in Python replaces the scripts; the library's own tests compare the two.
"""

from __future__ import annotations

from celeriac.testing.calls import Calls, Dropped, NotRunError, Queued, Ran, policies
from celeriac.testing.clock import Clock

__all__ = ["Calls", "Clock", "Dropped", "NotRunError", "Queued", "Ran", "policies"]
