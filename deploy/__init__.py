"""What Google is handed, and the commands that hand it over. Nothing in `app` or `stages` imports it."""
