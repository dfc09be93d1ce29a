"""How recorded data is put into words and HTML for people."""
