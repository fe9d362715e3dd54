"""How are people notified of failures by a message?

`grouping` collects failures and decides when the next message is due and what it says. `slack` sends it.
"""
