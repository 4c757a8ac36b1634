"""Attention. Read attention first: the rule, its derivation and its cases.

sight says which keys a query sees, and which pairs of blocks have any; blocks cuts queries and keys
into blocks, and takes the pairs one after the other, forwards and backwards; arguments says in one
line what is wrong with a call. choice says which calls cuDNN may take on a GPU, and why not the
others; cudnn makes them.
"""
