"""The gateway in this server: opened when its packages are there, with the configuration that the settings name."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from leyden.errors import BadInput, MissingExtra
from leyden.settings import Settings
from leyden.store.opening import Store
from leyden.store.price_lists import PriceLists

if TYPE_CHECKING:
    from leyden.gateway.app import Gateway
    from leyden.gateway.config import GatewayConfig
    from leyden.sdk.client import Client

DEFAULT_FILE = "leyden.yaml"
PACKAGES = ("aiohttp", "yaml")


def open_gateway(store: Store, settings: Settings, *, prices: PriceLists) -> "Gateway | None":
    """The gateway; None when this server has not the role, or its packages are not installed.

    Raises BadInput for a configuration that cannot be right; MissingExtra when one is there and the packages are not.
    """
    if "gateway" not in settings.roles_here:
        return None
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        if settings.config or Path(DEFAULT_FILE).exists():
            raise missing_extra(missing[0])
        return None
    from leyden.gateway.app import Gateway

    return Gateway(store, _config(settings), settings, prices=prices)


class OpenGateway(Protocol):
    """How a server comes by its gateway; None where it has none."""

    def __call__(self, store: Store, settings: Settings, *, prices: PriceLists) -> "Gateway | None": ...


def gateway_of(config: "GatewayConfig", *, send_to: "Client | None" = None) -> OpenGateway:
    """A gateway with a configuration that is in no file. send_to: the server that gets the records, instead of the own store."""
    from leyden.gateway.app import Gateway
    from leyden.gateway.capture import Capture
    from leyden.gateway.sent_capture import SentCapture

    capture = Capture if send_to is None else partial(SentCapture, send_to)

    def opened(store: Store, settings: Settings, *, prices: PriceLists) -> Gateway:
        return Gateway(store, config, settings, prices=prices, capture=capture)

    return opened


def check_packages() -> None:
    """Raises MissingExtra where a package of the gateway is not installed."""
    for name in PACKAGES:
        if find_spec(name) is None:
            raise missing_extra(name)


def missing_extra(package: str = "aiohttp") -> MissingExtra:
    """What a call is told where the gateway's packages are not installed."""
    return MissingExtra(f"The gateway needs the package {package}", hint='pip install "leyden[gateway]"')


def _config(settings: Settings) -> "GatewayConfig":
    from leyden.gateway.config import GatewayConfig

    path = Path(settings.config or DEFAULT_FILE).expanduser()
    if settings.config and not path.is_file():
        raise BadInput(f"There is no configuration at {path}", hint="LEYDEN_CONFIG or --config names it")
    return GatewayConfig.from_file(path) if path.is_file() else GatewayConfig.from_env()
