"""Load tests with Locust: the real users, and what they must be given."""
