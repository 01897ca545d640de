"""What the tests of the commands share."""

from click.testing import Result
from typer.testing import CliRunner

from sam3_lora.cli.app import app
from sam3_lora.config import ASSETS
from sam3_lora.errors import Sam3LoraError

IMAGE = next((ASSETS / "demo" / "dataset" / "valid").rglob("*.jpg"))


def call(*arguments: object) -> Result:
    """Runs a command in this process; exceptions other than exits and a user's mistakes are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit | Sam3LoraError):
        raise result.exception
    return result
