"""Set-up's step for Kafka: a Java to run it, and its jars in the folder that is named.

`python deploy/kafka/install.py FOLDER` exits with 1 and one line that says
what to install when either cannot be had.
"""

import sys
from pathlib import Path

from stream.errors import StreamError
from stream.jars import install_jars, java

try:
    java()
    install_jars(Path(sys.argv[1]).absolute())
except StreamError as error:
    sys.exit(str(error))
