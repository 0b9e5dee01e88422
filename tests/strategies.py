"""Hypothesis strategies for configurations, derived from the types of `RunConfig`."""

from typing import Literal, get_args, get_origin

from hypothesis import strategies as st

from resnet_cli.config import FIELDS, DatasetName

# Fields whose values depend on others, so that a test has to choose them.
_DEPENDENT = {"recipe", "arch", "depth", "shortcut", "epochs", "steps", "milestones"}


def values_of(name, *, with_none=True):
    """Any value of field `name` within its choices or bounds, None included where it is allowed and wanted."""
    kind, meta, is_optional = FIELDS[name]
    if get_origin(kind) is Literal:
        values = st.sampled_from(get_args(kind))
    elif kind is bool:
        values = st.booleans()
    else:
        values = (st.floats if kind is float else st.integers)(meta.ge, meta.le)
    return st.none() | values if is_optional and with_none else values


# `arrays` cannot be named on the command line
INDEPENDENT = {name: values_of(name) for name in FIELDS if name not in _DEPENDENT} | {
    "dataset": st.sampled_from(get_args(DatasetName))
}
