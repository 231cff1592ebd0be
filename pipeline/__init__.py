"""What a user launches."""

import logging

# Beam says on every import that an optional Google client is missing; nothing here needs it.
logging.getLogger().addFilter(lambda record: "apitools not found" not in str(record.msg))
