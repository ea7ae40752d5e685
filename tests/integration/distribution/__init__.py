"""What users install: the wheel, its bill of materials, the chart and the compose file."""
