"""Programs that trained the models that ship with fleetmill."""
