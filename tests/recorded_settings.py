"""Those of the product, for a web server that a test starts: its answers are compared with the schema, too."""

from config.settings import *  # noqa: F403
from config.settings import MIDDLEWARE as PRODUCT_MIDDLEWARE

# By name: what is there imports the settings.
MIDDLEWARE = ["tests.contract.ContractMiddleware", *PRODUCT_MIDDLEWARE]
