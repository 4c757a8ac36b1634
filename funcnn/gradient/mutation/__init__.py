"""Would a mistake in a rule have been noticed: plant it and see.

In: a rule. Out: the share of planted mistakes that a check notices.

score: plants and counts, the first file to read. mutants: what may be planted where. operators: the
mistakes themselves. mutated_rule: the rule with one of them. check: the score as a check.
"""
