"""The build of the site makes pages and pictures from the code of jinit."""
