"""`python -m oxidecast.transcoding.worker PARENT NICE [devices]`: one stream's decoder and encoders.

PARENT is the process id of the server, with which it dies. It reads a job, tracks and packets from its standard input,
and writes tracks, packets and messages to its standard output (`formats/framed.py`).
"""

import os
import sys

from oxidecast.formats.framed_messages import Ready
from oxidecast.transcoding.worker.confinement import confine, die_with_parent
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.program import Program


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    os.nice(int(sys.argv[2]))
    confined = confine(devices="devices" in sys.argv[3:])
    output = Output(1)
    output.message(Ready(confined))
    try:
        Program(output).run(0)
    except KeyboardInterrupt:
        pass
    # Threads may still sit in an encoder; there is nothing left to wait for.
    os._exit(0)


if __name__ == "__main__":
    main()
