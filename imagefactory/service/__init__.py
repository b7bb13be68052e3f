"""The service: what runs where, and what each may do."""
