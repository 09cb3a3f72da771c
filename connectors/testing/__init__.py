"""What every connector must do, as tests: subclass `ConnectorContract`, say how to reach a fresh account, and run pytest.

    class TestMine(ConnectorContract):
        @pytest.fixture
        def account(self):
            with my_sandbox() as sandbox:
                yield ContractAccount(
                    connector=Mine.from_settings(sandbox.settings),
                    settings=sandbox.settings,
                    people=sandbox.people,
                    act=sandbox.act,
                )

Everything is seen through the account's own eyes, never through the connector's alone. Whatever a connector does not do
yet stands in `notimpl`, whatever its ESP never can in `never`: by the test's name, each with its reason.

No ESP's words here. For tests alone: it needs `pytest`, which the product does not.
"""

from .account import ContractAccount, Posted
from .contract import ConnectorContract

__all__ = ["ConnectorContract", "ContractAccount", "Posted"]
