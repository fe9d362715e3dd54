"""What does /metrics show?

The hooks count tasks, `children` sends the counts of the pool's processes to their parent, `tally` adds them up, and
`exposition` writes the page. Values that can be read from the worker's state at each scrape are not counted. Metrics
are labelled by pool, never by pod: the scraper adds the pod.
"""
