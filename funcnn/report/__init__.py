"""Reports: rows become tables of text or JSON lines. It knows rows, not what they are about."""

from funcnn.report.rows import table, write_json_lines

__all__ = ["table", "write_json_lines"]
