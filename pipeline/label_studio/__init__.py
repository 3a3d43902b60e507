"""Label Studio: tasks of people who review labels go there, and their answers come back."""
