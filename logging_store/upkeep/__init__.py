"""What runs beside the calls: retention, the index of the search, reports of erasures."""
