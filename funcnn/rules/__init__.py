"""The rules: functions of arrays with hand-derived gradients. This page is their table of contents."""
