"""The stages: what each job does with a task, one file per job."""
