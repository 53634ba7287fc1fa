"""Arguments of `demo` and `demo traffic`."""

from support_service.arguments import argument_types
from support_service.arguments.subcommands import Subcommands


def add_to(commands: Subcommands) -> None:
    """Add `demo` to the commands."""
    what = "serve the API with simulated upstream services and sample cases"
    demo = commands.add("demo", what, "demo:demo")
    demo.add_argument(
        "--port", type=argument_types.port, default=None, help="port to listen on (default: SUPPORT_PORT, 8000)"
    )
    what = "send realistic load to a running service, for dashboards; SUPPORT_TOKEN authenticates"
    traffic = Subcommands(demo, "traffic", required=False).add("traffic", what, "demo:traffic")
    traffic.add_argument(
        "--base-url",
        type=argument_types.base_url,
        default="http://127.0.0.1:8000",
        metavar="URL",
        help="URL of the service (default: %(default)s)",
    )
    traffic.add_argument(
        "--rate",
        type=argument_types.request_rate,
        default=5.0,
        help="requests per second, or for example 300/min (default: %(default)s)",
    )
    traffic.add_argument(
        "--duration", type=argument_types.seconds, help="how long, such as 60s or 5m (default: until Ctrl-C)"
    )
    traffic.add_argument("--faults", action="store_true", help="also send invalid requests")
