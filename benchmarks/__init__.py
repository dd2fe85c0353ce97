"""Speed and memory measurements; each script prints a table and can write its rows as JSON."""
