"""Barbican for gunicorn. Its own module looks for the paste file below /etc only."""

import os

from paste.deploy import loadapp

application = loadapp("config:" + os.environ["BARBICAN_PASTE"])
