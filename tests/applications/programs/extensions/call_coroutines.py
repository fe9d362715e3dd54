"""Call coroutines, and say what came of them."""

import json

from coroutines import add, again, fail, plain, stay

outcomes = {"a coroutine": str(add.delay(1, 2).get(timeout=30)), "a function": str(plain.delay(7).get(timeout=30))}
spans = [it.get(timeout=30) for it in [stay.delay(2) for _ in range(4)]]
together = max(began for began, _ in spans) < min(ended for _, ended in spans)
outcomes["four coroutines that wait"] = "side by side" if together else "one after the other"
try:
    fail.delay().get(timeout=30)
except ValueError as error:
    outcomes["a coroutine that fails"] = f"ValueError: {error}"
outcomes["a coroutine that asks for a retry"] = f"{again.delay().get(timeout=30)} retry"
print(json.dumps(outcomes))
