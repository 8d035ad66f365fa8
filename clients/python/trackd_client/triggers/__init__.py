"""Rules on live tracks: what fires, decided without sockets, clocks or threads.

`engine.py` is the page to read first: settlements and events go in, firings come out. `trackd_client.actions` sends
them.
"""
