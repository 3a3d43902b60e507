"""The stages: one file a job."""
