"""This package has small recurrent models, each in four libraries."""
