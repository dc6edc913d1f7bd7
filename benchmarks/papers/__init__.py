"""What published papers say of initialization, reproduced by command."""
