"""
The exclusive lane: one transfer has a connection to itself.

When both ends agree on it, a thread takes over the socket and the reactor
forgets the connection until its end.  L{rpcstream.net.lane.lane} is the
reactor's side, L{rpcstream.net.lane.loop} the thread's.
"""
