"""What a logout costs, beside the limit of the platform and beside what others would pick: ``make bench``."""
