"""(pure) What do messages, held entries, dead letters and replies of scripts look like, as values?"""
