"""What is asked together, and which figures that gives."""
