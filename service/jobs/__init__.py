"""The durable workflow of a registration: its enqueue side (``queue``) and its worker side."""
