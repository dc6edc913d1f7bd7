"""Models of any library become pure functions of their parameters.

`adapt` finds the library of a model; each library has one small file here. No library
is imported that the user has not imported: a model's type says where it comes from.
"""

from .adapt import adapt as adapt
from .adapt import holds_arrays as holds_arrays
from .adapt import is_linen as is_linen
from .adapted import Adapted as Adapted
from .arguments import without_streams as without_streams
from .trace import require_numbers as require_numbers
from .trace import trace as trace
