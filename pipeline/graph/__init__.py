"""The graph of a job: stages, the journal, the transforms that run them, and execution."""
