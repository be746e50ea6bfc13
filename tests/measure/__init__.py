"""What is measured: instructions, figures, and which faults the tests notice."""
