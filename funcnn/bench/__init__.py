"""Measuring: exact figures of compiled programs, also for devices that are not here.

In: works by name. Out: rows of times, their ratios, bytes and FLOPs.

suite: the works by name, the first file to read. measure: arms in turn, medians and spread.
training, operations, large: the works. networks: what the arms of a training share. peers: the same
in other libraries. steps: how many steps a call should take. absent, absent_works: bytes and
kernels on a GPU that is not there.
"""
