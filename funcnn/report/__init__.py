"""Reports: rows become tables of text, JSON lines, or one HTML file with figures.

It knows rows, not what they are about.
"""

from funcnn.report.html import Section, write_html
from funcnn.report.rows import table, write_json_lines

__all__ = ["Section", "table", "write_html", "write_json_lines"]
