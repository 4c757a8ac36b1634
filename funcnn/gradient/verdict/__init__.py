"""From numbers to a verdict.

In: a gradient, its truth, and how much rounding explains. Out: pass, fail or inconclusive, and why.

judge: the comparison itself, the first file to read. results: one line of a report, and its words.
figures: as many digits as it takes to see a difference. reports, sections: the results of many
rules side by side, as text and on a page.
"""
