"""Reader studies: people say which images look real, and not one of their labels is lost.

design.py      who sees which image when: blinded mixes, repeats, assignment, active order
store.py       the history of labels, in SQLite or PostgreSQL
study.py       a study: its design, kept in a store
consensus.py   several raters, one verdict
statistics.py  what a reader study reports
pictures.py    pixels, as the page asks for them
access.py      who may ask: tokens, cookies, cross-site requests, headers
server.py      the web application
pages/         the page itself: HTML, style and scripts, without a build step
"""
