"""What answers an item: one module for each kind of model."""
