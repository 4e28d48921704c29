"""The paper's tables and figures, by command."""
