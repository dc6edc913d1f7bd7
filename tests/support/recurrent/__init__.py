"""Small recurrent and state-space models, each in four libraries."""
