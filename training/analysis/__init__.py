"""Reading runs: selection, statistics, tables, charts, reports, a live view."""
