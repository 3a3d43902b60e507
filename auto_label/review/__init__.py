"""The review loop: what labellers see in Label Studio, and what they answer."""
