"""A process that follows rank 0."""

import pytest

from resnet_cli.device import decide
from resnet_cli.dist import Ranks
from resnet_cli.errors import ConfigError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.session.team import InitialState, follow


def test_data_that_do_not_fit_on_one_machine_are_an_error_that_its_process_prints():
    config = make_config("demo", arch="plain", depth=8, device="cpu")

    class Told(Ranks):
        """Rank 0 has begun."""

        def broadcast(self, thing=None):
            """Give what rank 0 told."""
            return InitialState(config, None, decide(config, ranks=self).decisions, b"")

    def read_data(recorded):
        raise ConfigError("--limit-train 9 is more than there are", hint="use a smaller one")

    with pytest.raises(Exception, match="rank 1 cannot join the run: limit_train 9 is more than there are") as caught:
        follow(Told(1, 2, 1), config, read_data)
    assert not isinstance(caught.value, UsageError)  # which only rank 0 prints
