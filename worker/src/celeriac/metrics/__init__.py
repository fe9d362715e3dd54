"""What does /metrics say?

`tally` keeps what is counted, `children` brings it from the pool's processes to their parent, the hooks count tasks,
`exposition` writes the page. What can be read from the worker's present state at each scrape is not counted at all.
Labelled by pool and never by pod: the scraper adds the pod.
"""
