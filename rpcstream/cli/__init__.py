"""What a person types: commands, and how they report."""
