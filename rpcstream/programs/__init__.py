"""What can be called: numbers and layouts of programs, and the bases to declare them with."""
