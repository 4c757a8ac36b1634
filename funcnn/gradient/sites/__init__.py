"""Every rule of a program where it stands.

In: a program and its arguments. Out: for each site, the rule's error at the operands of that place.

census: all of them, the first file to read; report: what it found. site_calls: the calls of one
site. site_error: its error at operands and cotangents; site_verdict: whether that is too large.
shaken: operands that no tie survives. localize: the first site from which a gradient is wrong.
"""
