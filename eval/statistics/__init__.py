"""What a number of answers shows: intervals, and gates that are claims about them."""
