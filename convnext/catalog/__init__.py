"""What exists: the family's rows, released weights and their names, class lists. Standard library only."""
