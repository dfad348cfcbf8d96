"""The same work done by rpcstream and by others, on this machine, in one run."""
