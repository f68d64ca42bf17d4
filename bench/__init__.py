"""One script per number we publish; README.md says how to run them and what each number means."""
