"""Text that a model writes, token by token: writing is the loop, sampling which token comes next.

How a model goes on from what it has read is in `funcnn.core.caching`.
"""
