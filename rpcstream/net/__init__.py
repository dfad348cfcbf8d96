"""
The Twisted layer: one protocol over the sans-I/O core, its client and its server.

What belongs here: transports, timers, Deferreds, producers and consumers, TLS,
endpoints.  What does not: bytes on the wire (C{wire}), protocol rules (C{core}),
files at rest (C{storage}).
"""
