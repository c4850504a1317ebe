"""The network: whether hosts know each other's names, and over which interface they talk."""

import fcntl
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dist_vgg.doctor.findings import OK, WARNING, Finding, World, by_host, names

if TYPE_CHECKING:
    from mpi4py import MPI

CHECK = "network"
SIOCGIFADDR = 0x8915  # of <linux/sockios.h>: an interface's IPv4 address
LOOKUP_SECONDS = 5  # that all look-ups together may take; a name server that is gone takes longer
# Bridges of containers and virtual machines: they lead to no other host, but have an address.
BRIDGES = ("docker", "br-", "virbr", "cni", "veth", "lxc", "podman", "flannel")
MPI_OPTION = "mpirun -iface {0} (MPICH), --mca btl_tcp_if_include {0} (Open MPI)"


def facts(comm: "MPI.Intracomm", hosts: Sequence[str]) -> dict[str, Any]:
    """What the names of all `hosts` mean here, and this host's interfaces with their addresses."""
    found: dict[str, list[str]] = {}
    reverse: dict[str, list[str]] = {}
    threads = []
    for host in dict.fromkeys(hosts):
        # In threads of their own, which nobody waits for longer than this.
        threads.append(threading.Thread(target=_look_up, args=(host, found, reverse), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(LOOKUP_SECONDS / len(threads))
    interfaces = interface_addresses()
    peers = [a for host, all_of in dict(found).items() for a in all_of if host != _me()]
    return dict(
        addresses=dict(found),
        slow=sum(thread.is_alive() for thread in threads),
        reverse=dict(reverse),
        interfaces=interfaces,
        used=_interface_to(peers[0], interfaces) if peers else "",
    )


def _me() -> str:
    from mpi4py import MPI

    return MPI.Get_processor_name()


def _look_up(host: str, found: dict[str, list[str]], reverse: dict[str, list[str]]) -> None:
    """Note the addresses of a name, and those of the name that the first address has."""
    found[host] = resolve(host)
    with suppress(OSError):
        if found[host]:
            name, aliases, _ = socket.gethostbyaddr(found[host][0])
            reverse[host] = sorted({a for n in (name, *aliases) for a in resolve(n)})


def resolve(host: str) -> list[str]:
    """The IPv4 addresses of a name; none where nobody knows it."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
    return []


def interface_addresses() -> dict[str, str]:
    """The IPv4 address of each interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _interface_to(address: str, interfaces: dict[str, str]) -> str:
    """The interface that packets to an address leave by; nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        source = probe.getsockname()[0]
        return next((name for name, mine in interfaces.items() if mine == source), source)
    return ""


def judge(world: World) -> Iterator[Finding]:
    """Names that lead nowhere or astray, and bridges that MPI may take for the network."""
    hosts = {host: ranks[0]["network"] for host, ranks in by_host(world).items()}
    if len(hosts) == 1:
        yield Finding(OK, CHECK, "one host; nothing leaves it")
        return
    found = [*_names(hosts), *_bridges(hosts)]
    yield from found
    if not found:
        used = names(network["used"] or "?" for network in hosts.values())
        yield Finding(OK, CHECK, f"{len(hosts)} hosts know each other's names; they use {used}")


def _names(hosts: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    slow = names(host for host, network in hosts.items() if network["slow"])
    if slow:
        yield Finding(
            WARNING, CHECK, f"a name takes more than {LOOKUP_SECONDS} s to look up on {slow}",
            "put the hosts into /etc/hosts, or mend the name server",
        )  # fmt: skip
    for name in hosts:
        seen = {host: network["addresses"].get(name) for host, network in hosts.items()}
        unknown = names(host for host, addresses in seen.items() if addresses == [])
        if unknown:
            # MPI itself may have been given addresses; what is started by name will fail.
            yield Finding(
                WARNING, CHECK, f"{unknown} can't resolve the name {name}",
                "elastic starts ranks by these names: put them into /etc/hosts or DNS",
            )  # fmt: skip
            continue
        if any(all(a.startswith("127.") for a in addresses) for host, addresses in seen.items()
               if addresses and host != name):  # fmt: skip
            yield Finding(
                WARNING, CHECK, f"the name {name} means 127.x on another host",
                f"give {name} its network address in /etc/hosts everywhere",
            )  # fmt: skip
            continue
        abroad = {tuple(sorted(a)) for host, a in seen.items() if a and host != name}
        reverse = [a for network in hosts.values() if (a := network["reverse"].get(name))]
        if len(abroad) > 1:
            yield Finding(
                WARNING, CHECK, f"the name {name} means several addresses: "
                f"{', '.join(sorted({a for each in abroad for a in each}))}",
                "give every host the same /etc/hosts",
            )  # fmt: skip
        elif abroad and any(not set(back) & set(min(abroad)) and
                            not any(a.startswith("127.") for a in back)
                            for back in reverse):  # fmt: skip
            yield Finding(
                WARNING, CHECK, f"the address of {name} has a name that leads to another address",
                "mend /etc/hosts or the reverse records",
            )  # fmt: skip


def _bridges(hosts: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """Interfaces that have the same address on several hosts, as docker0 has."""
    owners: dict[tuple[str, str], list[str]] = {}
    for host, network in hosts.items():
        for name, address in network["interfaces"].items():
            if name.startswith(BRIDGES):
                owners.setdefault((name, address), []).append(host)
            if name.startswith(BRIDGES) and name == network["used"]:
                yield Finding(
                    WARNING, CHECK, f"{host} reaches other hosts over {name}, a bridge",
                    "name the interface of the network: " + MPI_OPTION.format("eth0"),
                )  # fmt: skip
    for (name, address), of in owners.items():
        if len(of) > 1:
            used = next((n for h in of if (n := hosts[h]["used"])), "eth0")
            yield Finding(
                WARNING, CHECK, f"{names(of)} all have {address} on {name}, where MPI may look "
                "for the others", f"if MPI hangs or is slow: {MPI_OPTION.format(used)}",
            )  # fmt: skip
