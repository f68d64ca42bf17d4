"""What `Client` can ask a server, one file per noun."""
