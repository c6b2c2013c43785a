"""Reports of ``elimtool check``: terminal table, JUnit XML, Markdown summary and GitHub annotations."""
