"""The networks that all tasks share: the family, the road to it, their layers, and other libraries' baselines."""
