"""The live viewer: pages in a browser that show streams, over one WebSocket each.

`hub.py` takes settled frames from the IO thread, `shower.py` encodes them on a thread of its own, `page.py` sends them
on the HTTP server's thread. Nothing here waits for a page: of each stream a page has at most one unsent frame.
"""
