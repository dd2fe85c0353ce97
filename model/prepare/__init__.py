"""From published archives to a data set that training accepts."""
