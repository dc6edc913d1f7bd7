"""These models of packages that do not install follow the published papers."""
