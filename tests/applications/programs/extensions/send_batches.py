"""Send messages for two batches and a plain task, and say what came of them."""

import json

from batched import count_click, plain

results = [count_click.delay(url=f"page-{number}") for number in range(20)]
alone = plain.delay(7).get(timeout=60)
sizes = [result.get(timeout=60) for result in results]
together = "in batches" if min(sizes) > 1 else "one by one"
print(json.dumps({"20 messages for batches of 10": f"{len(sizes)} done {together}", "a plain task": str(alone)}))
