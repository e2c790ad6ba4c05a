"""FastAPI routes of the control plane: occupations, their versions, registrations."""
