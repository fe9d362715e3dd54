"""What is reported to Sentry, and what does that cost a task?

`client` sets up the SDK and reports each failure once. `runs` and `records` reduce the SDK's work for each run and each
log record.
"""
