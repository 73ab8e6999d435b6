"""`python -m crossrank` is `crossrank`; torchrun starts it in this form: `torchrun -m crossrank train RECIPE`."""

from crossrank.cli.main import app

app(prog_name="crossrank")
