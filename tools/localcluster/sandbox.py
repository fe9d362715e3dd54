"""The namespaces that an embedded cluster lives in, and the only place that changes this machine.

Network, mounts and processes of a cluster are its own: iptables rules, bridge, sysctls and mounts of its programs never
touch the machine's, its ports take nobody's, and several clusters run side by side. The first process inside is the
`pause` program: when it ends, however that happens, the kernel ends every process inside (containers and their shims
too) and with the last one the mounts, the bridge and the rules are gone. What the kernel does not take back is named
after the cluster's home and so found again after any crash: a cgroup, and the folder itself.

    machine                                  the cluster's network namespace
    clr-1234abcd  10.244.0.254/24  <--veth-->  machine --- bridge cni0 10.244.0.1/24 --- pods
    route 10.96.0.0/24 via 10.244.0.1                      everything else: refused
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from localcluster import processes
from localcluster.configuration import BRIDGE, FIXED_PATHS, home_id
from localcluster.errors import CommandError, LocalClusterError
from localcluster.network import Network

INIT = "sandbox"
OWN = ("--net", "--mount", "--pid")
# A bridge takes its lowest port's address by default, so it would change with each pod.
BRIDGE_ADDRESS = "02:ce:1e:71:ac:01"
OURS = ".celeriac-cluster"  # in every home: no folder without it is ever removed
# These sysctls belong to the whole machine: read-only inside. The kubelet requires some values, and finds
# them already set.
WORLD_SYSCTLS = ("kernel", "vm")
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Sandbox:
    """The namespaces of the cluster with this home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._enter: tuple[str, ...] = ()  # set by `create` and `attach`

    def create(self, network: Network, pause: Path) -> None:
        _make_cgroups(self.home)
        for path in FIXED_PATHS:
            path.mkdir(parents=True, exist_ok=True)
        unshare = ["unshare", *OWN, "--fork", "--kill-child", "--propagation=private", "--mount-proc"]
        started = processes.start(INIT, [*unshare, pause], home=self.home, log=self.home / "log" / f"{INIT}.log")
        init = self._await_init(pause, started)
        self._enter = ("nsenter", f"--target={init}", *OWN, "--")
        self._mount()
        self._join(network, init)

    def attach(self) -> None:
        """Enter the namespaces of a cluster that runs."""
        init = self._init()
        if init is None:
            raise LocalClusterError(f"no cluster runs in {self.home}")
        self._enter = ("nsenter", f"--target={init}", *OWN, "--")

    def start(self, name: str, argv: Sequence[str | Path]) -> None:
        """Start a process inside, as a child of the first one there; its log is `log/<name>.log`."""
        log = self.home / "log" / f"{name}.log"
        environment = {**os.environ, processes.MARK: processes.mark(name, self.home)}
        with log.open("ab") as output:
            subprocess.run(
                [*self._enter, "setsid", "--fork", *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                check=True,
            )

    def _run(self, *argv: str | Path) -> None:
        run(*self._enter, *argv)

    def _await_init(self, pause: Path, started: processes.Process) -> int:
        """The first process inside, once it runs `pause`: then its own /proc is mounted."""
        while processes.is_running(started):
            init = self._init()
            with contextlib.suppress(OSError):
                if init and Path(f"/proc/{init}/exe").samefile(pause):
                    return init
            time.sleep(0.005)
        raise LocalClusterError(f"no namespaces of our own:\n{processes.tail(self.home / 'log' / f'{INIT}.log')}")

    def _init(self) -> int | None:
        """The machine's number of the first process inside."""
        for process in processes.running(self.home):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if next(line for line in status if line.startswith("NSpid:")).split()[2:] == ["1"]:
                    return process.pid
        return None

    def _mount(self) -> None:
        # Shared within, so that what the kubelet mounts for a pod appears where containerd looks for it.
        self._run("mount", "--make-rshared", "/")
        for path in FIXED_PATHS:
            own = self.home / "fixed" / str(path).strip("/").replace("/", "-")
            own.mkdir(parents=True)
            self._run("mount", "--bind", own, path)
        for name in WORLD_SYSCTLS:
            self._run("mount", "--bind", f"/proc/sys/{name}", f"/proc/sys/{name}")
            self._run("mount", "-o", "remount,bind,ro", f"/proc/sys/{name}")
        for name, value in KUBELET_SYSCTLS.items():
            shown = self.home / "fixed" / name.replace("/", "-")
            shown.write_text(f"{value}\n")
            self._run("mount", "--bind", shown, f"/proc/sys/{name}")

    def _join(self, network: Network, init: int) -> None:
        self._run("ip", "link", "set", "lo", "up")
        self._run("ip", "link", "add", BRIDGE, "address", BRIDGE_ADDRESS, "type", "bridge")
        self._run("ip", "address", "add", f"{network.node}/24", "dev", BRIDGE)
        self._run("ip", "link", "set", BRIDGE, "up")
        self._refuse_the_rest(network)
        self._run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        # Without it an answer from one pod to another skips the way back through the translation of a service's
        # address, DNS first of all.
        self._run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
        veth = home_id(self.home)
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "machine", "netns", str(init))
        self._run("ip", "link", "set", "machine", "master", BRIDGE, "up")
        run("ip", "address", "add", f"{network.machine}/24", "dev", veth)
        run("ip", "link", "set", veth, "up")
        run("ip", "route", "add", network.services, "via", network.node, "dev", veth)

    def _refuse_the_rest(self, network: Network) -> None:
        """Refuse connections to anywhere else at once.

        Without a route the kernel would answer too, but only to a few packets a second; the other callers would wait
        for their timeouts. So everything has a route to the bridge, and a reset on the way to it. Services have this
        route too: routes are looked up before their addresses are translated.
        """
        self._run("ip", "route", "add", "default", "dev", BRIDGE, "src", network.node)
        for chain in ("FORWARD", "OUTPUT"):
            rule = ["iptables", "-A", chain, "-o", BRIDGE, "!", "-d", network.pods]
            self._run(*rule, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
            self._run(*rule, "-j", "REJECT")


def claim(home: Path) -> None:
    """Make the home of a new cluster."""
    home.mkdir(parents=True, exist_ok=True)
    (home / OURS).touch()


def destroy(home: Path) -> None:
    """End everything of this home and take it away; safe at any time, also where there is nothing."""
    if home.exists() and any(home.iterdir()) and not (home / OURS).exists():
        raise LocalClusterError(
            f"{home} holds something else than a cluster; set CELERIAC_CLUSTER_HOME to a new folder"
        )
    processes.stop_all(home)
    _remove_veth(home_id(home))
    _remove_cgroups(home)
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        shutil.rmtree(home)  # now with the error, if it is still there
    if not any(process.name == INIT for process in processes.running()):
        # Mount points that nobody uses; a folder with something in it was not ours.
        for path in FIXED_PATHS:
            with contextlib.suppress(OSError):
                path.rmdir()


def _remove_veth(name: str) -> None:
    # It goes with the namespace, but the kernel keeps that one for as long as a dead program's connection says goodbye.
    if (Path("/sys/class/net") / name).exists():
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    if (Path("/sys/class/net") / name).exists():
        raise LocalClusterError(f"the network interface {name} cannot be removed: ip link delete {name} says why")


def used_networks() -> list[str]:
    """Addresses and destinations of this machine's interfaces and routes, for `network.choose`."""
    addresses = run("ip", "-o", "-4", "address", "show").splitlines()
    routes = run("ip", "-o", "-4", "route", "show").splitlines()
    found = [line.split()[3] for line in addresses] + [line.split()[0] for line in routes]
    return [text for text in found if text[:1].isdigit()]


def load_kernel_modules() -> None:
    """Overlay file systems and filtering on bridges; both may be built in, so a failure shows later."""
    for name in ("overlay", "br_netfilter"):
        subprocess.run(["modprobe", "-q", name], check=False, capture_output=True)


def run(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _hierarchies() -> Iterable[Path]:
    """Version 2's one tree, or each of version 1's, or both: runc uses whatever is mounted."""
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    return sorted({Path(where) for where, kind in mounts if kind in {"cgroup", "cgroup2"}})


def _make_cgroups(home: Path) -> None:
    for tree in _hierarchies():
        (tree / home_id(home)).mkdir(exist_ok=True)


def _remove_cgroups(home: Path) -> None:
    for tree in _hierarchies():
        for folder, _, _ in os.walk(tree / home_id(home), topdown=False):
            Path(folder).rmdir()
