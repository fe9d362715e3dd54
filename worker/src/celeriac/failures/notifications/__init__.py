"""Who is told, by a message, of what went wrong?

`grouping` keeps what has failed and says when the next message is due and what it says; `slack` sends it.
"""
