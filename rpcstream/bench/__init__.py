"""
C{rpcstream bench}: how fast this is here, and where the time goes.

Both ends are processes of their own on 127.0.0.1, with certificates made for
the occasion.  Nothing here is a test: what a peer does is in C{benchmarks/}.
"""
