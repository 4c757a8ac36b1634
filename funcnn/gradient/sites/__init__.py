"""Every rule of a program where it stands.

In: a program and its arguments. Out: for each site, the rule's error at the operands of that place.

census: the table of all, the first file to read. site_error: one site. shaken: operands that no tie
survives. localize: the first site from which a gradient is wrong.
"""
