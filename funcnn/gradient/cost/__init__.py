"""What a gradient costs.

In: a function and arguments. Out: FLOPs, bytes, seconds.

flops: operations counted on the jaxpr, loops times their trips; the first file to read. peaks:
how many of them a device can do a second. residuals: bytes kept between the passes. timing: two
functions in turn, with the spread.
"""
