"""Two artifact directories side by side: what differs, and whether it matters. Nothing is run; numbers are compared as they are stored."""
