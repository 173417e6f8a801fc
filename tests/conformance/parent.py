"""The parent of a job on its home node: parent.py REPORT COMMAND...

Starts the command, writes "pid N" to REPORT at once and "status N" when it has ended: the wait status
as a parent at home sees it, which an exit status handed through a shell would blur.
"""

import os
import sys


def main():
    report, command = sys.argv[1], sys.argv[2:]
    pid = os.posix_spawnp(command[0], command, os.environ)
    with open(report, "w", encoding="ascii") as file:
        print("pid", pid, file=file, flush=True)
        _, status = os.waitpid(pid, 0)
        print("status", os.waitstatus_to_exitcode(status), file=file, flush=True)


if __name__ == "__main__":
    main()
