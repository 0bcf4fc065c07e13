"""Event lines in the words of other standards: pure functions, one a standard, from an event to an object of theirs."""
