"""keeper PROGRAM...: starts a program as a shell would, in a process group of its own, and says on
its standard error what the kernel tells its parent: "pid N", then "stopped SIGNAL", "continued" and
"ended STATUS" (negative: by that signal)."""

import os
import sys


def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\n").encode())


pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    os.execvp(sys.argv[1], sys.argv[1:])
say("pid", pid)
while True:
    _, status = os.waitpid(pid, os.WUNTRACED | os.WCONTINUED)
    if os.WIFSTOPPED(status):
        say("stopped", os.WSTOPSIG(status))
    elif os.WIFCONTINUED(status):
        say("continued")
    else:
        say("ended", os.waitstatus_to_exitcode(status))
        break
