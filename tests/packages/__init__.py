"""What is shipped: the wheel, the sdist, the .debs, the rpm, the units; and bare machines."""
