"""Terminals on a node, with a person at the keyboard."""

import itertools
import re

from lab import wait_until

_numbers = itertools.count(1)


class Terminal:
    """A terminal of tmux's on a node, in which a program runs: an interactive shell as a rule."""

    def __init__(self, lab, *command, node="n1", user=None, width=80, height=24):
        self.lab = lab
        self.node = node
        self.user = user
        self.name = f"t{next(_numbers)}"
        command = command or ("env", "PS1=$ ", "bash", "--norc", "--noprofile", "-i")
        self._tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, *command)
        self._tmux("set", "-g", "status", "off")
        # What stays on the screen of a program that has ended is to be seen.
        self._tmux("set", "-g", "remain-on-exit", "on")

    def _tmux(self, *arguments):
        return self.lab.exec(self.node, ["env", "TERM=xterm", "tmux", "-L", self.name, *arguments],
                             user=self.user).stdout

    def keys(self, *keys):
        """Presses keys as tmux calls them: Enter, Up, C-c, C-z."""
        self._tmux("send-keys", "-t", "0", *keys)

    def type(self, text):
        self._tmux("send-keys", "-t", "0", "-l", text)

    def line(self, text):
        self.type(text)
        self.keys("Enter")

    def screen(self):
        """The lines of the screen without the blanks at their ends, and without empty ones below."""
        lines = [line.rstrip() for line in self._tmux("capture-pane", "-p", "-t", "0").split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def expect(self, pattern, timeout=20):
        """Waits until that is on the screen: a regular expression, lines by ^ and $."""
        try:
            return wait_until(lambda: re.search(pattern, "\n".join(self.screen()), re.M), what=pattern,
                              timeout=timeout)
        except TimeoutError as late:
            raise AssertionError(f"{late}; the screen is\n" + "\n".join(self.screen())) from late

    def resize(self, width, height):
        self._tmux("resize-window", "-t", "0", "-x", width, "-y", height)

    def close(self):
        """As if somebody had closed its window: it hangs up."""
        self._tmux("kill-server")
