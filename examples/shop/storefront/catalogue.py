"""What is for sale: a few pages, each with a link to the next."""

PAGES = (
    ("Celeriac", "Leeks", "Parsnips"),
    ("Beetroot", "Kohlrabi", "Salsify"),
    ("Chard", "Fennel", "Swede"),
)
