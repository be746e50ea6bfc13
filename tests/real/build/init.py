"""What dom0 runs: its /init, small helpers, and how it tells the outside what happened.

dom0 has two lines to the outside. The kernel and Xen share the first serial port, the log. The
other one belongs to the command, with a few lines of our own in between; those begin with MARK and
a word that only this boot knows, so that nothing a command prints is taken for one of them:

    MARK WORD ready           the host is up; the command starts
    MARK WORD exit N          the command ended with status N
    MARK WORD out             base64 lines of a tar archive of /out follow
    MARK WORD end             nothing follows
"""

from __future__ import annotations

from . import network
from .machine import Machine

MARK = "\x01domindex"
COMMAND_FILE = "etc/domindex/command"
WORD_FILE = "etc/domindex/word"

_MODULES = ("xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs")


def module_names() -> tuple[str, ...]:
    """The kernel modules in a dom0: those it needs, in order, and one that it may ask for."""
    return (*_MODULES, network.DRIVER)


def init_script(machine: Machine, *, xen: str) -> str:
    """/init for Xen's release `xen`."""
    return f"""#!/bin/sh
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/xen-{xen}/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
exec >/dev/console 2>&1
mount -t tmpfs tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
for module in {" ".join(_MODULES)}; do insmod /lib/modules/$module.ko; done
mount -t xenfs xenfs /proc/xen
ip link set lo up
hostname dom0
xenstored-start || poweroff -f
xen-init-dom0

word=$(cat /{WORD_FILE})
exec 3>{machine.line}
stty raw -echo <&3
printf '{_shell(MARK)} %s ready\\n' $word >&3
export HOME=/root TERM=dumb LC_ALL=C.UTF-8 DOMINDEX_XEN={xen}
export PYTHONPATH=/site PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
cd /root
sh /{COMMAND_FILE} </dev/null >&3 2>&1 3>&-
status=$?
# A command may end in the middle of a line.
printf '\\n{_shell(MARK)} %s exit %d\\n' $word $status >&3
if [ -n "$(ls -A /out)" ]; then
    printf '{_shell(MARK)} %s out\\n' $word >&3
    tar -cz -C /out . | base64 >&3
fi
printf '{_shell(MARK)} %s end\\n' $word >&3
poweroff -f
"""


def _shell(text: str) -> str:
    return text.replace("\x01", "\\001")


def helpers(*, xen: str, store: str) -> dict[str, str]:
    """Scripts for dom0's /usr/local/bin. store: "xenstored" or "oxenstored"."""
    # Its file would be written at each change; from 4.20 on there is none.
    memory_only = "" if xen >= "4.20" else " --internal-db"
    daemon = f"xenstored{memory_only}" if store == "xenstored" else "oxenstored"
    return {
        "network-start": network.script(),
        "xenstored-start": f"""#!/bin/sh
# Starts xenstored and returns when it listens. A second run starts it with an empty store.
rm -f /run/xenstored/socket /run/xenstored/socket_ro
{daemon} --no-fork --pid-file=/run/xenstored.pid </dev/null >/dev/console 2>&1 &
until [ -S /run/xenstored/socket ]; do
    [ -d /proc/$! ] || exit 1
    usleep 10000
done
""",
        "xenstored-stop": """#!/bin/sh
# Kills xenstored and returns when it is gone.
pid=$(cat /run/xenstored.pid)
kill -9 $pid
while [ -d /proc/$pid ]; do usleep 10000; done
""",
        "xenstored-restart": """#!/bin/sh
# A new xenstored with an empty store, in which dom0 is written again. The console daemon does
# not survive a lost connection, and a page that it holds would make a zombie of each domain.
xenstored-stop
if [ -f /run/xenconsoled.pid ]; then
    kill -9 $(cat /run/xenconsoled.pid)
    rm /run/xenconsoled.pid
fi
xenstored-start
exec xen-init-dom0
""",
        "xl": f"""#!/bin/sh
# The console daemon is started when `xl create` first waits for it, not at boot: at each birth
# and death it looks through all domains, which doubles the time of making hundreds of them.
if [ "$1" = create ] && [ ! -f /run/xenconsoled.pid ]; then
    xenconsoled --pid-file=/run/xenconsoled.pid
fi
exec /usr/lib/xen-{xen}/bin/xl "$@"
""",
        "stub-device-model": """#!/bin/sh
# Stands in for QEMU so that `xl create` is content with an HVM domain: says that it runs.
while [ $# -gt 0 ]; do
    if [ "$1" = -d ]; then domid=$2; fi
    shift
done
xenstore-write /local/domain/0/device-model/$domid/state running
exec sleep 1000000
""",
    }
