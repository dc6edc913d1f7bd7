"""Models of packages that do not install, written anew from what was published."""
