"""What a check found, as a terminal table, JUnit XML, Markdown and annotations of GitHub Actions."""
