"""What comes next: look at what is there, plan, do one step, record it, look again."""
