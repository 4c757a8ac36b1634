"""Reports: rows become tables of text, JSON lines, or one HTML file with figures.

It knows rows, not what they are about.

report: what every tool hands back, the first file to read. rows: tables of text and JSON lines.
html: a page of sections. sections: those about rules. program_sections: those about a whole
program. figures: what they draw. files: whole, or not written.
"""

from funcnn.report.html import Section
from funcnn.report.report import Report, write_page
from funcnn.report.rows import counted, plain, table, write_json_lines

__all__ = ["Report", "Section", "counted", "plain", "table", "write_json_lines", "write_page"]
