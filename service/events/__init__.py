"""What is recorded: the events, how they become lines, and the log that takes the lines."""
