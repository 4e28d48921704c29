"""What the machine and its terminal give: memory, processes, progress, tables as text, shares as intervals."""
