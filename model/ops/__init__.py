"""The machine: the operations that networks are made of, on backends, threads and process groups."""
