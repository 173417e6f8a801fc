"""What a guest leaves behind is cleared away, or said to be there."""

from lab import wait_until
from numbered_job import NumberedJob


def test_a_group_that_cannot_be_removed_is_said_once_and_removed_later(lab):
    made = lab(2)
    job = NumberedJob(made)
    job.migrate("n2")
    group = made.out("n2", ["find", "/sys/fs/cgroup", "-type", "d", "-path",
                            "*/drover-guests/n1-*"]).splitlines()[0]
    # A group inside it, with a process, is nothing that migrated has made: it is left alone.
    sleeper = made.popen("n2", ["sh", "-c", 'mkdir "$0/inner" && echo $$ > "$0/inner/cgroup.procs" '
                                "&& echo in && exec sleep 1000", group])
    assert sleeper.stdout.readline() == "in\n"
    job.migrate("home")
    wait_until(lambda: "its guest has gone, but not" in made.daemon_logs(), timeout=20,
               what="it is said")
    # On cgroup v2 the process has been killed with the group.
    made.exec("n2", ["sh", "-c", 'kill $(cat "$0/inner/cgroup.procs")', group], check=False)
    sleeper.wait(timeout=5)
    made.exec("n2", ["rmdir", f"{group}/inner"])
    wait_until(lambda: "what was left of it is gone" in made.daemon_logs(), timeout=20,
               what="it is removed")
    assert made.daemon_logs().count("its guest has gone, but not") == 1
    assert made.exec("n2", ["test", "-e", group], check=False).returncode == 1
    job.finish()
